"""The likeliest value of every target: one call of the model."""

from __future__ import annotations

from ..model import Decoder


class Argmax(Decoder):
    def run(self, model, targets, batch, rng=None, state=None):
        outs = model(batch, targets, state)
        return {t: model.heads[t].predict(outs[t]) for t in targets}
