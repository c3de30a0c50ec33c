"""Boxes in a picture: at every place of the finest grid a score per class and a box, without anchors (FCOS with a joint score).

Tian et al. 2019 ("FCOS", arXiv 1904.01355) on one level, fed from all coarser ones top down (Lin et al. 2017, arXiv 1612.03144), with the quality
focal loss of Li et al. 2020 ("Generalized focal loss", arXiv 2006.04388, eq. 5) in place of a separate centre-ness: the target of a true class is the
IoU of the box predicted there, so that one number says both what and how well placed. Per place, with p the score and q that IoU (0 for every other
class),

    classes  |q - p|^2 * BCE(p, q)        boxes  2 * (1 - GIoU)  where a place is positive       both summed, per positive place

A place is positive for a box when its cell holds the box's centre, or when it lies in the box within `radius` cells of the centre; where several
boxes claim it, the smallest has it. Boxes are a shift of the centre in cells and the log of their size over the training boxes' median, so that small
ones need no place inside them and learning starts from boxes of a sensible size. All of a row's loss comes from that row. Left out: several levels of
output with ranges of size (one grid is enough where objects are within a factor of ten), rotated boxes and masks. The divergence for distillation is
that of scores and boxes, place by place.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import refuse
from ..forms import Encoded, Prediction, Ragged
from ..layers.residual import ConvNorm
from ..model import Head

PRIOR = 0.01  # the score of every class at every place before training (Lin et al. 2017, arXiv 1708.02002)


class Boxes(Head):
    says = "boxes"
    decoder = "nms"

    def __init__(self, width: int = 64, depth: int = 2, level: int = 0, radius: float = 1.5, reads: str = "all"):
        """width, depth: of the convolutions. level: of the encoder's pyramid, 0 the finest. radius: in cells. reads: the picture, where there are
        other inputs beside it."""
        super().__init__()
        if width < 1 or depth < 0 or level < 0 or radius <= 0:
            raise ValueError(f"width ({width}), depth ({depth}), level ({level}) or radius ({radius}) is out of range")
        self.width, self.depth, self.level, self.radius, self.reads = width, depth, level, radius, reads

    def build(self, kind, width, encoder=None) -> None:
        if encoder is None or encoder.grid is None:
            what = "boxes need a grid of places in one picture; " + (
                "several inputs are fused to one vector" if encoder is None else "this input has none"
            )
            fix = "encode the picture with resnet or cnn" + (" and name it: heads: {TARGET: {boxes: {reads: PICTURE}}}" if encoder is None else "")
            raise refuse("head.grid", what, where="model.heads", fix=fix)
        levels = encoder.levels or [(width, *encoder.grid)]
        if self.level >= len(levels):
            raise refuse("head.level", f"level {self.level} of {len(levels)}", where="model.heads", fix=f"a level from 0 to {len(levels) - 1}")
        self.pyramid, self.grid = encoder.levels is not None, tuple(levels[self.level][1:])
        self.laterals = nn.ModuleList([nn.Conv2d(c, self.width, 1) for c, _, _ in levels[self.level :]])
        self.tower = nn.Sequential(*(ConvNorm(self.width, self.width, False, "group", "relu") for _ in range(self.depth)))
        self.scores, self.boxes = nn.Conv2d(self.width, len(kind.names_), 3, padding=1), nn.Conv2d(self.width, 4, 3, padding=1)
        for layer, bias in ((self.scores, -math.log((1 - PRIOR) / PRIOR)), (self.boxes, 0.0)):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, bias)
        height, width = self.grid
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
        self.register_buffer("places", torch.stack([x, y], -1).reshape(-1, 2), persistent=False)  # (L, 2) centres of cells, row by row
        self.register_buffer("cell", torch.tensor([1 / width, 1 / height]), persistent=False)
        self.register_buffer("usual", torch.tensor(kind.median_, dtype=torch.float32), persistent=False)  # width, height of a box

    def forward(self, h: Encoded, target=None) -> dict[str, Tensor]:
        """{scores: logits (B, L, K), boxes (B, L, 4)}; boxes are x1 y1 x2 y2 in shares of the picture, not clipped."""
        maps = h.pyramid[self.level :] if self.pyramid else [h.z.transpose(1, 2).unflatten(2, self.grid)]
        x = self.laterals[-1](maps[-1])
        for lateral, finer in zip(self.laterals[-2::-1], maps[-2::-1], strict=True):
            x = lateral(finer) + F.interpolate(x, finer.shape[-2:])
        x = self.tower(x)
        raw = self.boxes(x).flatten(2).transpose(1, 2).float()
        centre = self.places + raw[..., :2] * self.cell
        half = 0.5 * self.usual * raw[..., 2:].clamp(-5, 5).exp()
        return {"scores": self.scores(x).flatten(2).transpose(1, 2), "boxes": torch.cat([centre - half, centre + half], -1)}

    def owners(self, boxes: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """boxes (B, T, 4), there (B, T) -> which box owns each place (B, L), and whether any does (B, L)."""
        low, high = boxes[:, None, :, :2], boxes[:, None, :, 2:]
        place = self.places[:, None]
        off = ((place - (low + high) / 2) / self.cell).abs().amax(-1)  # (B, L, T) in cells from the centre
        inside = ((place >= low) & (place <= high)).all(-1)
        claims = ((off <= 0.5) | (inside & (off <= self.radius))) & there[:, None]
        area = torch.where(claims, (high - low).prod(-1), torch.inf)
        return area.argmin(-1), claims.any(-1)

    def nll(self, out, target, known):
        owner, positive = self.owners(target.values[..., :4], target.mask & known[:, None])
        mine = target.values.gather(1, owner.unsqueeze(-1).expand(-1, -1, 5))  # (B, L, 5)
        iou, giou = overlaps(out["boxes"], mine[..., :4])
        logits = out["scores"]
        quality = F.one_hot(mine[..., 4].long(), logits.shape[-1]) * (iou.detach().clamp(min=0) * positive).unsqueeze(-1)
        focal = (quality - logits.sigmoid()).square() * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
        total = focal.sum((1, 2)) + 2 * ((1 - giou) * positive).sum(1)
        return total * known, positive.sum(1).clamp(min=1).to(total.dtype) * known

    def predict(self, out) -> Prediction:
        """Every place's box, with its likeliest class: what the decoder chooses from."""
        score, labels = out["scores"].sigmoid().max(-1)
        return Prediction(
            boxes=Ragged(out["boxes"].clamp(0, 1), torch.full((len(score),), score.shape[1], device=score.device)), labels=labels, score=score
        )


    def divergence(self, student, teacher, temperature) -> Tensor:
        """(B,) of the scores (Bernoulli, times T^2) and, as far as the teacher sees something, 2 (1 - GIoU) of the boxes; per place seen."""
        s, t = student["scores"] / temperature, teacher["scores"] / temperature
        p = t.sigmoid()
        kl = p * (F.logsigmoid(t) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))
        seen = teacher["scores"].sigmoid().amax(-1)
        boxes = 2 * (1 - overlaps(student["boxes"], teacher["boxes"])[1]) * seen
        return (temperature**2 * kl.sum((1, 2)) + boxes.sum(1)) / seen.sum(1).clamp(min=1)


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(IoU, GIoU) of boxes (..., 4), pair by pair. GIoU: less the share of the smallest box around both that neither fills."""
    both = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    around = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    iou = both / union.clamp(min=1e-12)
    return iou, iou - (around - union) / around.clamp(min=1e-12)
