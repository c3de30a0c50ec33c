"""Pictures that are cut out of others, or set in a frame, in another light.

A picture is near where the best window of the other agrees with it at all its places, and no other picture's window does nearly so. Windows of two thirds
to all of a side, at nine places of each size, are compared first, standardised (which takes light and contrast away) and 8 x 8 large; the most alike are
then moved and sized by small steps at 16 x 16. Whether chance explains the best of them is asked as Lowe (2004) asks it of key points: it must leave at
most a fifth of the squares that the best window of any other picture leaves, and at most a tenth of its own. Both ways: either may be the cut-out.
Left out: less than two thirds of a side, cut-outs that are also mirrored or turned, several copies of one picture in training.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

SIZES = (0.7, 0.78, 0.86, 0.93)  # of a side
RATIO, LEFT = 0.2, 0.1  # squares left: over the next picture's, and over its own
FINALISTS, STEPS = 4, 3


def cut_out(test: np.ndarray, train: np.ndarray) -> np.ndarray:
    """(N,) bool: the test pictures (N, C, H, W) uint8 that are parts of a training picture (M, C, H, W), or that hold one."""
    if min(len(test), len(train)) == 0 or len(train) < 20:
        return np.zeros(len(test), bool)
    a, b = (torch.from_numpy(np.ascontiguousarray(x)).float() for x in (test, train))
    return (_parts(a, b) | _parts(b, a, whole=True)).numpy()


def _parts(small: Tensor, large: Tensor, whole: bool = False) -> Tensor:
    """Which of small (N, C, H, W) are parts of one of large (M, ...); whole: which of large hold one of small."""
    boxes = torch.tensor([(size, x, y) for size in SIZES for x, y in product((-1.0, 0.0, 1.0), repeat=2)])
    views = torch.cat([standard(windows(large, box.expand(len(large), 3), 8)) for box in boxes])  # (V M, F), by box
    own = standard(windows(small, torch.tensor([[1.0, 0, 0]]).expand(len(small), 3), 8))
    mine, others = (len(large), small) if whole else (len(small), large)
    found = torch.zeros(mine, dtype=torch.bool)
    for start in range(0, mine, 256):
        rows = torch.arange(start, min(start + 256, mine))
        if whole:
            alike = torch.stack([views.view(len(boxes), len(large), -1)[v, rows] @ own.T for v in range(len(boxes))])  # (V, B, N)
        else:
            alike = (own[rows] @ views.T).view(len(rows), len(boxes), len(large)).transpose(0, 1)
        best, box = alike.max(0)  # (B, others): of each other picture its best window
        score, which = best.topk(FINALISTS, dim=1)
        likely = (score[:, 0] > 0.7) & (1 - score[:, 0] < 0.6 * (1 - score[:, -1]))
        rows, which, box = (v[likely] for v in (rows, which, box.gather(1, which)))
        if not len(rows):
            continue
        left = torch.stack([_refined(*((others[w], large[rows]) if whole else (small[rows], large[w])), boxes[k]) for w, k in zip(which.T, box.T)], 1)
        order = left.sort(1).values
        found[rows] = (order[:, 0] <= LEFT) & (order[:, 0] <= RATIO * order[:, 1])
    return found


def _refined(small: Tensor, large: Tensor, box: Tensor) -> Tensor:
    """(B,) squares that are left of small by the best window of large near its box (B, 3), after steps that halve."""
    own, step = standard(windows(small, torch.tensor([[1.0, 0, 0]]).expand(len(small), 3), 16)), torch.tensor([0.05, 0.5, 0.5])
    least = torch.full((len(small),), 2.0)
    for _ in range(STEPS):
        tried = torch.stack([box + step * torch.tensor(d) for d in product((-1.0, 0.0, 1.0), repeat=3)])
        tried = torch.cat([tried[..., :1].clamp(0.6, 1), tried[..., 1:].clamp(-1, 1)], 2)
        left = torch.stack([1 - (own * standard(windows(large, t, 16))).sum(1) for t in tried])  # (27, B)
        least, at = left.min(0)
        box, step = tried[at, torch.arange(len(small))], step / 2
    return least


def windows(x: Tensor, box: Tensor, side: int) -> Tensor:
    """(B, C, side, side): of each picture the window of a size (a share of its side) at a place (-1 to 1, each way): box (B, 3)."""
    size, room = box[:, 0], 1 - box[:, 0]
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, 0, 2], theta[:, 1, 2] = size, size, box[:, 1] * room, box[:, 2] * room
    grid = torch.nn.functional.affine_grid(theta, [len(x), x.shape[1], 2 * side, 2 * side], align_corners=False)
    shown = torch.nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return torch.nn.functional.adaptive_avg_pool2d(shown, side)


def standard(x: Tensor) -> Tensor:
    """(B, F): without mean, of length 1; a plain picture is 0, and like no other."""
    x = x.flatten(1)
    x = x - x.mean(1, keepdim=True)
    length = x.norm(dim=1, keepdim=True)
    return torch.where(length > x.shape[1] ** 0.5, x / length.clamp(min=1e-9), torch.zeros_like(x))
