"""Models that treat groups unlike, each beside one that does not; biased labels with a trusted subset; groups too small to speak of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from modelwright.subject import Subject

from . import Planted
from ._tables import Says, subject


def treated(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(4000, 7000))
        sex, site = rng.choice(["f", "m"], n), rng.choice(["north", "south"], n)
        y = (rng.random(n) < 0.4).astype(int)
        gap = rng.uniform(0.2, 0.4)
        worse = (sex == "f") & (site == "south") if how == "intersection" else sex == "f"
        said = np.where(rng.random(n) < 0.85, y, 1 - y)
        if how in ("selection", "intersection") and faulty:
            said = np.where(worse & (rng.random(n) < (gap + 0.25)), 0, said)
        if how == "opportunity" and faulty:
            said = np.where(worse & (y == 1) & (rng.random(n) < gap * 1.2), 0, said)
        if how == "alarms" and faulty:
            said = np.where(worse & (y == 0) & (rng.random(n) < gap * 1.2), 1, said)
        seen, splits = y, {}
        if how == "biased labels":  # the women's positives are often recorded as negatives, and the model learned it
            lost = (sex == "f") & (y == 1) & (rng.random(n) < gap + 0.15)
            seen = np.where(lost, 0, y)
            said = np.where(rng.random(n) < 0.85, seen if faulty else y, rng.integers(0, 2, n))
        table = pa.table({"sex": sex, "site": site, "said": said, "y": seen})
        if how == "biased labels":
            few = rng.permutation(n)[: int(n * 0.6)]
            splits["trusted"] = pa.table({"sex": sex[few], "site": site[few], "said": said[few], "y": y[few]})
        if how == "no positives" and faulty:
            table = table.filter(pa.array((sex == "m") | (y == 0)))
        columns = ["sex", "site"] if how == "intersection" else ["sex"]
        model = Says("y", lambda t: np.stack([0.9 - 0.8 * (s := t.column("said").to_numpy()), 0.1 + 0.8 * s], 1))
        kinds = {"sex": "category", "site": "category", "said": "number", "y": "category"}
        made = subject({"test": table, **splits}, kinds=kinds, group=columns, predictor=model, seed=seed)
        made.schema.targets["y"].labels_ = ["0", "1"]
        return made

    return make


def planted(how: str, metric: str, limit: str, expects: str = "fairness.above_limit") -> Planted:
    return Planted(treated(how), "fairness", {f"fairness.{metric}": limit}, expects)


KINDS = {
    "selection": planted("selection", "demographic_parity_difference", "<= 0.1"),
    "equal opportunity": planted("opportunity", "equal_opportunity_difference", "<= 0.15"),
    "false alarms": planted("alarms", "equalized_odds_difference", "<= 0.15"),
    "an intersection": planted("intersection", "demographic_parity_difference", "<= 0.15"),
    "biased labels": planted("biased labels", "equal_opportunity_difference", "<= 0.15"),
    "a group without positives": planted("no positives", "equal_opportunity_difference", "<= 0.15", "fairness.no_positives"),
}
