"""Accuracy against fairness on held-out rows: `python benchmarks/fairness_front.py [adult | german_credit ...] [--seeds N]`. Data from MODELWRIGHT_DATA.

One network as a plain task trains it; the same with `strategies: [fairness]` (weights in training); the same, plain, with the decoder
`group_thresholds` and with fairlearn's ThresholdOptimizer, both fitted on the calibration rows; logistic regression plain and under fairlearn's
reductions (ExponentiatedGradient), fitted on all rows but the test's. Figures are means over seeds of weights and splits (adult's test rows are given,
german_credit's drawn anew) with half the width of Student's t interval; differences are between the two sexes. fairlearn's lines are left out where
it is not installed.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from sklearn.base import BaseEstimator, ClassifierMixin

import modelwright as mw
from modelwright import find, planning
from modelwright.artifact import Loaded
from modelwright.intervals import over_seeds
from modelwright.learn import loop
from modelwright.learn.calibrate import calibrate
from modelwright.learn.validation import loss_on

SEX = {"sex": {"kind": "category", "group": True}}
TASKS = {
    "adult": {"data": {"source": "hub://adult", "columns": SEX}, "target": {"income": "category"}},
    "german_credit": {
        "data": {"source": "hub://german_credit", "columns": SEX, "split": {"test": 0.3, "calibration": 0.2}}, "target": {"class-label": "category"},
    },
}  # fmt: skip
CONSTRAINTS = ("equalized_odds", "demographic_parity")


def rates(said: np.ndarray, y: np.ndarray, group: np.ndarray) -> tuple[float, float, float]:
    """Accuracy, equalized odds difference, demographic parity difference."""

    def apart(rows: np.ndarray) -> float:
        shares = [said[rows & (group == g)].mean() for g in np.unique(group)]
        return float(max(shares) - min(shares))

    every = np.ones_like(y, bool)
    return float((said == y).mean()), max(apart(y), apart(~y)), apart(every)


def network(task: dict, seed: int, strategies: list) -> tuple[planning.Plan, torch.nn.Module]:
    """Trained and calibrated."""
    data = task["data"] | {"split": task["data"].get("split", {}) | {"seed": seed}}
    plan = planning.make(mw.task_of(task | {"data": data, "seed": seed, "stages": [{"train": {"strategies": strategies}}]}))
    stage = plan.stage(0, plan.model(seed), seed)
    stage.validate = loss_on(plan.data["validation"], stage.settings.device)
    model = loop.fit(stage).model.cpu()
    calibrate(model, plan.data["calibration"])
    return plan, model


def ours(task: dict, seed: int, found: dict) -> planning.Plan:
    """Plain, weights in training, thresholds after it: what each says of the test rows."""
    plan, model = network(task, seed, [])
    ((target, kind),) = plan.schema.targets.items()
    test = plan.tables["test"]

    def said(net) -> np.ndarray:
        return Loaded(net, plan.schema).predict(test)[target].value.numpy().astype(bool)

    found["network, plain"] = said(model)
    argmax = model.decoders[target]
    for constraint in CONSTRAINTS:
        decoder = find.make("decoders", {"group_thresholds": {"constraint": constraint}})
        decoder.build(target, kind, plan.schema.group_values_)
        model.decoders[target] = decoder
        calibrate(model, plan.data["calibration"])
        found[f"network, group_thresholds: {constraint}"] = said(model)
        model.decoders[target] = argmax
    thresholds(plan, model, target, found)
    for constraint in CONSTRAINTS:
        found[f"network, fairness weights: {constraint}"] = said(network(task, seed, [{"fairness": constraint}])[1])
    return plan


class Scores(ClassifierMixin, BaseEstimator):
    """The network's probabilities as an estimator that is already fitted; X is the column of them."""

    classes_ = np.array([False, True])

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.asarray(X)[:, 0]


def thresholds(plan: planning.Plan, model, target: str, found: dict) -> None:
    try:
        from fairlearn.postprocessing import ThresholdOptimizer
    except ImportError:
        return
    net = Loaded(model, plan.schema)

    def column(split: str) -> np.ndarray:
        return net.predict(plan.tables[split])[target].probabilities[:, 1:].double().numpy()

    for constraint in CONSTRAINTS:
        rival = ThresholdOptimizer(estimator=Scores(), constraints=constraint, prefit=True, predict_method="predict")
        rival.fit(column("calibration"), truth(plan, "calibration"), sensitive_features=plan.data["calibration"].groups)
        told = rival.predict(column("test"), sensitive_features=plan.data["test"].groups, random_state=0)
        found[f"network, fairlearn thresholds: {constraint}"] = np.asarray(told).astype(bool)


def truth(plan: planning.Plan, split: str) -> np.ndarray:
    (stored,) = plan.data[split].targets.values()
    return stored["values"].astype(bool)


def reductions(plan: planning.Plan, found: dict) -> None:
    """Logistic regression on standardised numbers and one-hot categories, plain and under constraints."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    names, splits = list(plan.schema.inputs), ("train", "validation", "calibration", "test")
    frame = pd.get_dummies(pa.concat_tables([plan.tables[s].select(names) for s in splits]).to_pandas()).astype(np.float64).fillna(0)
    n = frame.shape[0] - plan.tables["test"].num_rows
    x = StandardScaler().fit(frame[:n]).transform(frame)
    y, g = (np.concatenate([f(s) for s in splits]) for f in (lambda s: truth(plan, s), lambda s: plan.data[s].groups))
    found["logistic, plain"] = LogisticRegression(max_iter=300).fit(x[:n], y[:n]).predict(x[n:])
    try:
        from fairlearn.reductions import DemographicParity, EqualizedOdds, ExponentiatedGradient
    except ImportError:
        return
    for constraint, moment in zip(CONSTRAINTS, (EqualizedOdds, DemographicParity), strict=True):
        rival = ExponentiatedGradient(LogisticRegression(max_iter=300), moment(), max_iter=20)
        rival.fit(x[:n], y[:n], sensitive_features=g[:n])
        found[f"logistic, fairlearn reductions: {constraint}"] = np.asarray(rival.predict(x[n:], random_state=0)).astype(bool)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    wanted = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in wanted.names or TASKS:
        began, figures = time.perf_counter(), {}
        for seed in range(wanted.seeds):
            found: dict[str, np.ndarray] = {}
            plan = ours(TASKS[name], seed, found)
            reductions(plan, found)
            for method, said in found.items():
                figures.setdefault(method, []).append(rates(said, truth(plan, "test"), plan.data["test"].groups))
        print(f"{name}: {wanted.seeds} seeds, {plan.tables['test'].num_rows} test rows, {time.perf_counter() - began:.0f} s\n")
        print("| method | accuracy | equalized odds difference | demographic parity difference |\n|---|---|---|---|")
        for method, lines in figures.items():
            each = [over_seeds(np.array(v)) for v in zip(*lines, strict=True)]
            print(f"| {method} | " + " | ".join(f"{i.value:.4f} ± {i.high - i.value:.4f}" for i in each) + " |", flush=True)
        print()


if __name__ == "__main__":
    main()
