"""The privacy that the run accounted for: epsilon as its strategies stated it.

Exact, not estimated; no attack verifies it here.
A model whose training stated nothing has no finite epsilon: the figure is null and any limit on it fails.
"""

from __future__ import annotations

from ..audit import Audit, Subject
from ..forms import Measurement


class Privacy(Audit):
    def measure(self, subject: Subject) -> list[Measurement]:
        stages = subject.lineage.get("stages", [])
        private = [s["statement"]["privacy"] for s in stages if "privacy" in s.get("statement", {})]
        if not private:
            return []
        if len(private) < len(stages):  # a stage that saw the same rows without noise undoes the others' promise
            reason, epsilon = ["privacy.stage_without_noise"], None
        else:
            reason, epsilon = [], float(sum(p["epsilon"] for p in private))  # basic composition
        n = subject.splits["train"].num_rows
        return [
            Measurement(
                "privacy",
                "privacy.epsilon",
                None,
                "train",
                None,
                epsilon,
                epsilon,
                epsilon,
                1.0,
                n,
                "accountant, basic composition over stages",
                0,
                0.0,
                {"stages": private},
                reason,
            )
        ]
