"""What explainers that take inputs away share: which inputs go together, and what the model says of rows with some of them replaced.

An input is a table's column, a word, or a patch of a picture (all its colours). Legend: B rows, F inputs, M masks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..explainer import Function

CALL = 4096  # the most rows asked about at once


def groups(x: Tensor, patches: int) -> Tensor:
    """(...) int64 like one x: the number of the input that each value belongs to; pictures are cut into at most patches x patches."""
    if x.dim() != 4:
        return torch.arange(x[0].numel()).reshape(x.shape[1:])
    _, channels, height, width = x.shape
    h, w = min(patches, height), min(patches, width)
    return (torch.arange(height)[:, None] * h // height * w + torch.arange(width) * w // width).expand(channels, -1, -1)


def asked(f: Function, x: Tensor, classes: Tensor, baseline: Tensor, masks: Tensor, group: Tensor) -> Tensor:
    """(M, B) the class's log-odds of every row with the inputs outside each mask (M, F) bool replaced by the baseline's."""
    at_once, said = max(1, CALL // len(x)), []
    with torch.no_grad():
        for some in masks.split(at_once):
            kept = some[:, group].unsqueeze(1)  # (m, 1, ...)
            rows = torch.where(kept, x, baseline.to(x.dtype)).flatten(0, 1)
            said.append(f(rows).gather(1, classes.repeat(len(some))[:, None]).reshape(len(some), len(x)))
    return torch.cat(said)


def spread(values: Tensor, group: Tensor) -> Tensor:
    """(B, F) of inputs -> (B, ...) like x, each input's value shared out evenly among its members: sums stay."""
    members = F.one_hot(group.flatten()).sum(0)
    return (values / members)[:, group]
