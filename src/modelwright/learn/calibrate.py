"""What is fitted on the calibration split after training: one temperature per head, and the decoders that fit themselves (thresholds).

Temperature scaling is Guo et al. 2017; the order of predictions cannot change. Decoders come after it: they read calibrated probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .. import metrics as m
from ..data.dataset import Dataset
from ..data.streams import in_order
from ..model import Model


def calibrate(model: Model, data: Dataset) -> dict[str, dict[str, Any]]:
    """Temperatures, then decoders; per target what was found, that of a decoder under "decoder"."""
    report: dict[str, dict[str, Any]] = temperature(model, data)
    for target, decoder in model.decoders.items():
        if decoder.fits and target in data.targets:
            out, y, groups = outputs(model, data, target)
            report[target] = report.get(target, {}) | {"decoder": decoder.fit(target, model.heads[target].predict(out), y, groups)}
    return report


@torch.no_grad()
def outputs(model: Model, data: Dataset, target: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """A head's outputs, targets and groups for the rows that have a target."""
    outs, truth, groups = [], [], []
    device = next(model.parameters()).device
    for batch in in_order(data, 512):
        keep = batch.knows(target)
        outs.append(model(batch.to(device), [target])[target].cpu()[keep])
        truth.append(batch.targets[target][keep])
        groups += [] if batch.groups is None else [batch.groups[keep]]
    return torch.cat(outs), torch.cat(truth), torch.cat(groups) if groups else None


def temperature(model: Model, data: Dataset) -> dict[str, dict[str, float]]:
    """Set every head's temperature; per target what it did on the calibration split. A head without one is passed over."""
    report = {}
    model.eval()
    for target, head in model.heads.items():
        if not head.calibrates or target not in data.targets:
            continue
        out, y, _ = outputs(model, data, target)
        known = torch.ones(len(y), dtype=torch.bool)
        log_t = torch.zeros((), requires_grad=True)
        solver = torch.optim.LBFGS([log_t], max_iter=50, line_search_fn="strong_wolfe")

        def loss(out=out, y=y, known=known, head=head, log_t=log_t, solver=solver):
            solver.zero_grad()
            total, _ = head.nll(out / log_t.exp(), y, known)
            total.mean().backward()
            return total.mean()

        before = _figures(head, out, y)
        solver.step(loss)
        value = log_t.detach().exp().clamp(0.05, 20)
        head.temperature.copy_(value if torch.isfinite(value) else torch.ones(()))
        after = _figures(head, out, y)
        report[target] = {
            "temperature": float(head.temperature),
            "rows": len(y),
            **{f"{k}_before": v for k, v in before.items()},
            **{f"{k}_after": v for k, v in after.items()},
        }
    return report


def _figures(head, out: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    p = head.predict(out).probabilities.numpy().astype(np.float64)
    return {"nll": float(m.nll(y.numpy(), p)), "ece": float(m.ece(y.numpy(), p))}
