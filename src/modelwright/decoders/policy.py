"""Acting: draws an action (or takes the likeliest) and says the value, in one pass. The hot path of rollouts.

With rng: a draw, its log-probability, and the value. Without: the likeliest action, with probabilities. `extra["state.<input>"]` is what a recurrent
encoder hands on to the next step, rows first.
"""

from __future__ import annotations

from torch import Tensor

from ..forms import Prediction
from ..model import Decoder


class Policy(Decoder):
    def run(self, model, targets, batch, rng=None, state=None):
        """Action: extra has log_probability (B,) or (B, T), and the other targets' values by their names."""
        parts = model.encode(batch, state)
        fused = model.fusion(parts, batch.known)
        found: dict[str, Prediction] = {}
        after = {f"state.{name}": p.state for name, p in parts.items() if isinstance(p.state, Tensor)}
        for t in targets:
            head = model.heads[t]
            out = head(fused if head.reads == "all" else parts[head.reads])
            if rng is None or not head.acts:
                found[t] = head.predict(out)
                continue
            action = head.act(out, rng)
            said = head.log_probability(out, action)
            found[t] = Prediction(action=_one(action), value=_one(action), extra={"log_probability": _one(said)})
        values = {u: p.value for u, p in found.items() if not model.heads[u].acts}
        for t in targets:
            if model.heads[t].acts:
                found[t].extra |= after | values
        return found


def _one(x: Tensor) -> Tensor:
    """Without the tokens' dimension where there is one token."""
    return x.squeeze(1) if x.shape[1] == 1 else x
