"""The loss that training is watched by: the objective's own (its last player's), on rows it does not learn from, drawn the same way every time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..data.dataset import Dataset
from ..objective import Learner

ROWS = 4000  # at most


def loss_on(data: Dataset, device: str) -> Callable[[Learner], dict[str, float]]:
    """For `Stage.validate`: {"loss": mean over units, terms weighted}."""
    rows = np.random.default_rng(0).permutation(len(data))[:ROWS]

    def validate(learner: Learner) -> dict[str, float]:
        player = list(learner.objective.players)[-1]
        rng = torch.Generator().manual_seed(0)
        totals: dict[str, list[float]] = {}
        for start in range(0, len(rows), 256):
            batch = data.batch(rows[start : start + 256], rng)
            loss = learner(learner.objective.prepare(batch.to(device), rng), player)
            for name, term in loss.terms.items():
                t = totals.setdefault(name, [0.0, 0.0, float(term.weight)])
                t[0] += float(term.total.sum())
                t[1] += float(term.count.sum())
            if loss.coupled is not None:
                t = totals.setdefault("coupled", [0.0, 0.0, 1.0])
                t[0] += float(loss.coupled) * len(batch)
                t[1] += len(batch)
        return {"loss": sum(w * total / max(count, 1.0) for total, count, w in totals.values())}

    return validate
