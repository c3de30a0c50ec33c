"""Boxes without doubles: of those of one class that overlap by more than `iou`, the surest stays (greedy non-maximum suppression).

torchvision's batched_nms picture by picture, on the 1,000 surest candidates above a threshold; the boxes left are sorted by falling score. The
defaults are those of FCOS (Tian et al. 2019) and COCO's limit of 100 boxes a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import refuse
from ..forms import Prediction, Ragged
from ..model import Decoder

CANDIDATES = 1000


class NMS(Decoder):
    takes = frozenset({"boxes"})

    def __init__(self, threshold: float = 0.05, iou: float = 0.6, most: int = 100):
        """threshold: the least score. iou: boxes of a class that overlap by more are one. most: boxes a picture."""
        if not (0 <= threshold <= 1 and 0 <= iou <= 1 and most >= 1):
            raise ValueError(f"threshold ({threshold}) and iou ({iou}) must lie between 0 and 1, most ({most}) must be at least 1")
        self.threshold, self.iou, self.most = threshold, iou, most

    def run(self, model, targets, batch, rng=None, state=None):
        outs = model(batch, targets, state)
        found = {t: model.heads[t].predict(outs[t]) for t in targets}
        if strange := [t for t, p in found.items() if p.boxes is None]:
            raise refuse(
                "decoder.head", f"the decoder nms is for boxes; the head of {strange[0]!r} predicts none", where=f"model.decoders.{strange[0]}"
            )
        return {t: self.suppress(p) for t, p in found.items()}

    def suppress(self, candidates: Prediction) -> Prediction:
        """Boxes Ragged (B, T, 4), labels (B, T) and score (B, T), T being the most that any picture kept."""
        mask = candidates.boxes.mask & (candidates.score > self.threshold)
        kept = [self._one(b, k, s, m) for b, k, s, m in zip(candidates.boxes.values, candidates.labels, candidates.score, mask, strict=True)]
        lengths = torch.tensor([len(i) for i in kept], dtype=torch.int64, device=mask.device)
        index = torch.zeros(len(kept), max([1, *map(len, kept)]), dtype=torch.int64, device=mask.device)
        for row, i in zip(index, kept, strict=True):
            row[: len(i)] = i
        there = torch.arange(index.shape[1], device=mask.device) < lengths[:, None]
        boxes = candidates.boxes.values.gather(1, index.unsqueeze(-1).expand(-1, -1, 4)) * there.unsqueeze(-1)
        return Prediction(
            boxes=Ragged(boxes, lengths), labels=candidates.labels.gather(1, index) * there, score=candidates.score.gather(1, index) * there
        )

    def _one(self, boxes: Tensor, labels: Tensor, score: Tensor, mask: Tensor) -> Tensor:
        """Indices of what stays of one picture's candidates (T,), surest first."""
        from torchvision.ops import batched_nms

        index = torch.nonzero(mask)[:, 0]
        index = index[score[index].argsort(descending=True, stable=True)[:CANDIDATES]]
        return index[batched_nms(boxes[index].float(), score[index].float(), labels[index], self.iou)[: self.most]]
