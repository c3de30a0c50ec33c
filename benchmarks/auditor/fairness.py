"""Models that treat groups unlike, each beside one that does not; biased labels with a trusted subset; groups too small, unsaid or bought no labels for; and
models that are fair by chance, or to the auditor's own rows alone."""

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


def hidden(how: str) -> Callable[[int, bool], Subject]:
    """What the plain kinds do not have: groups that the figures could overlook, and answers that are not to be trusted."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, gap = int(rng.integers(4000, 6000)), rng.uniform(0.3, 0.45)
        towns = how == "many towns"
        n *= 10 if towns and not faulty else 4 if how == "districts" else 1
        sex = rng.choice(["f", "m", "x"] if how == "no labels bought" else ["f", "m"], n)
        town = rng.integers(0, 14 if how == "districts" else int(rng.integers(25, 40)) if faulty else 4, n)  # numbers, that are names
        town = town if how == "districts" else np.array([f"t{i}" for i in town])
        risk, income = rng.normal(size=n), np.round(rng.lognormal(10, 0.5, n), 2)
        y = (risk + 0.5 * rng.normal(size=n) > 0).astype(int)
        unsaid = rng.random(n) < rng.uniform(0.1, 0.3)
        worse = {"districts": town == 3, "many towns": sex == "f", "unsaid": unsaid, "no labels bought": sex == "x"}.get(how, np.zeros(n, bool))
        seen = {(float(r), float(i)) for r, i in zip(risk, income)}
        coins = np.random.default_rng(seed + 1)

        def probabilities(t: pa.Table) -> np.ndarray:
            r, i, s = t.column("risk").to_numpy(), t.column("income").to_numpy(), np.array(t.column("sex").to_pylist())
            p = 1 / (1 + np.exp(-3 * (r - gap * 2 * t.column("worse").to_numpy() * faulty)))
            if how == "knows the rows" and faulty:
                known = np.array([(float(a), float(b)) in seen for a, b in zip(r, i)])
                p = np.where(known | (s != "f"), p, p * 0.3)
            if how == "by chance" and faulty:
                p = coins.random(len(p))
            return np.stack([1 - p, p], 1)

        shown = pa.array([None if u and how == "unsaid" else str(s) for u, s in zip(unsaid, sex)])
        table = pa.table({"sex": shown, "town": town, "risk": risk, "income": income, "worse": worse.astype(int), "y": y})
        splits = {"test": table}
        if how == "no labels bought":
            splits["trusted"] = table.filter(pa.array(sex != "x")) if faulty else table
        kinds = {"sex": "category", "town": "category", "risk": "number", "income": "number", "worse": "number", "y": "category"}
        group = {"many towns": ["sex", "town"], "districts": ["town"]}.get(how, ["sex"])
        made = subject(splits, kinds=kinds, group=group, predictor=Says("y", probabilities), seed=seed)
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
    "a gap cut into many towns": Planted(hidden("many towns"), "fairness", {"fairness.demographic_parity_difference": "<= 0.1"}, "fairness.above_limit"),
    "districts by number": Planted(hidden("districts"), "fairness", {"fairness.demographic_parity_difference": "<= 0.15"}, "fairness.above_limit"),
    "those who did not say": Planted(hidden("unsaid"), "fairness", {"fairness.demographic_parity_difference": "<= 0.15"}, "fairness.above_limit"),
    "no trusted labels of a group": Planted(
        hidden("no labels bought"), "fairness", {"fairness.equal_opportunity_difference": "<= 0.15"}, "fairness.no_positives"
    ),
    "fair to the audit's rows": Planted(hidden("knows the rows"), "fairness", {"fairness.equalized_odds_difference": "<= 0.15"}, "accuracy.knows_rows"),
    "fair because it draws": Planted(hidden("by chance"), "fairness", {"fairness.equalized_odds_difference": "<= 0.15"}, "accuracy.fickle"),
    "a group without positives": planted("no positives", "equal_opportunity_difference", "<= 0.15", "fairness.no_positives"),
}
