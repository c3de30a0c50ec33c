"""Our membership attack beside its reference: `python -m benchmarks.membership [adult|digits ...]`. Data from MODELWRIGHT_DATA.

The reference is algorithm 1 of Carlini et al. 2022, "Membership Inference Attacks From First Principles", written from the paper line by line below:
online and offline, variances of single rows or one for all. Both see the same confidences of the same overfit networks (one hidden layer, trained to
the end on a random half of the rows, in pairs of complements): each of the first eight is attacked in turn, the others are its shadow models. Printed:
mean over the eight with Student's interval at 0.95. The last lines are the audit as a user meets it: a network that was trained on all training rows,
shadow models of its own (on half of the attacked rows alone, and with the rest of training beside them), intervals as it reports them.
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np
import torch
from scipy.stats import norm, t
from sklearn.datasets import load_digits
from torch.nn import functional as F

from modelwright.audits import membership as ours
from modelwright.data import sources
from modelwright.forms import Prediction
from modelwright.metrics import auroc
from modelwright.subject import Subject

from .auditor._nets import number_schema, numbers

RATES, ATTACKED, SHADOWS = (0.001, 0.01, 0.05), 8, 32


# The reference


def phi(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logit scaling of the confidence in the true label: log(p / (1 - p)), with 1 - p summed from the other classes."""
    found = np.zeros(len(y))
    for i in range(len(y)):
        others = sum(p[i, k] for k in range(p.shape[1]) if k != y[i])
        found[i] = math.log(max(p[i, y[i]], 1e-9)) - math.log(max(others, 1e-9))
    return found


def algorithm_1(observed: np.ndarray, confidences: np.ndarray, inside: np.ndarray, online: bool, fixed: bool) -> np.ndarray:
    """observed (N,); confidences, inside (S, N) of the shadow models. (N,) the likelihood ratio; offline the probability that a model without the row
    is less sure of it."""
    n = len(observed)
    confs_in = [confidences[inside[:, i], i] for i in range(n)]
    confs_out = [confidences[~inside[:, i], i] for i in range(n)]
    mu_in, mu_out = [np.mean(c) for c in confs_in], [np.mean(c) for c in confs_out]
    var_in, var_out = [np.var(c) for c in confs_in], [np.var(c) for c in confs_out]
    if fixed:
        var_in, var_out = [np.mean(var_in)] * n, [np.mean(var_out)] * n
    found = np.zeros(n)
    for i in range(n):
        sd_in, sd_out = math.sqrt(max(var_in[i], 1e-12)), math.sqrt(max(var_out[i], 1e-12))
        if online:
            found[i] = norm.logpdf(observed[i], mu_in[i], sd_in) - norm.logpdf(observed[i], mu_out[i], sd_out)
        else:
            found[i] = norm.cdf(observed[i], mu_out[i], sd_out)  # 1 - P[Z > observed]
    return found


def rate(score: np.ndarray, member: np.ndarray, fpr: float) -> float:
    """The largest true positive rate of a threshold whose false positive rate is at most fpr."""
    best = 0.0
    for threshold in np.unique(score):
        if np.mean(score[~member] >= threshold) <= fpr:
            best = max(best, float(np.mean(score[member] >= threshold)))
    return best


# Rows and networks


def adult(n: int = 3000):
    table = sources.load("hub://adult", root=".", where="benchmarks").table
    rng = np.random.default_rng(0)
    table = table.take(np.sort(rng.permutation(table.num_rows)[:n]))
    columns = []
    for name in table.column_names:
        values = table.column(name)
        if name == "income" or name == "split":
            continue
        if str(values.type) in ("string", "large_string", "bool") or str(values.type).startswith("dictionary"):
            text = np.array([str(v) for v in values.to_pylist()])
            columns += [(text == v).astype(float) for v in np.unique(text)]
        else:
            x = np.nan_to_num(np.array(values.to_pylist(), float))
            columns.append((x - x.mean()) / max(x.std(), 1e-9))
    labels = np.array([str(v) for v in table.column("income").to_pylist()])
    return np.column_stack(columns), np.unique(labels, return_inverse=True)[1]


def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order] / 16, y[order]


def networks(x: torch.Tensor, y: torch.Tensor, inside: torch.Tensor, seed: int, steps: int, width: int = 128):
    """S networks at once, each on the rows (S, N) that are its own: p(x) -> (S, N, K). Full batches, Adam, no regularisation: they remember."""
    rng, s, k = torch.Generator().manual_seed(seed), len(inside), int(y.max()) + 1
    draw = lambda a, b: (torch.randn(s, a, b, generator=rng) * (2 / a) ** 0.5).requires_grad_()  # noqa: E731
    parameters = [draw(x.shape[1], width), torch.zeros(s, 1, width, requires_grad=True), draw(width, k), torch.zeros(s, 1, k, requires_grad=True)]

    def logits(x):
        return torch.matmul((torch.matmul(x, parameters[0]) + parameters[1]).relu(), parameters[2]) + parameters[3]

    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    weight = inside.float() / inside.sum(1, keepdim=True)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(logits(x).flatten(0, 1), y.repeat(s), reduction="none").reshape(s, -1)
        (loss * weight).sum().backward()
        optimizer.step()
    return lambda x: logits(x).detach().softmax(2)


STEPS = {"adult": 150, "digits": 120}
ROWS = {"adult": adult, "digits": digits}


def same_models(name: str) -> None:
    x, y = ROWS[name]()
    rng, n, began = np.random.default_rng(1), len(y), time.perf_counter()
    inside = np.array([rng.permutation(n) < n // 2 for _ in range(SHADOWS // 2 + 1)])
    inside = np.stack([inside, ~inside], 1).reshape(-1, n)
    tx, ty = torch.from_numpy(x).float(), torch.from_numpy(y)
    p = np.concatenate([networks(tx, ty, torch.from_numpy(part), 10 + i, STEPS[name])(tx).double().numpy() for i, part in enumerate(np.split(inside, 17))])
    right = p.argmax(2) == y
    print(f"{name}: {n} rows, {len(p)} networks in {time.perf_counter() - began:.0f} s", end=", ")
    print(f"accuracy {right[inside].mean():.3f} on their rows, {right[~inside].mean():.3f} on others")
    confidences = np.array([phi(q, y) for q in p])
    found: dict[str, list[list[float]]] = {}
    for a in range(ATTACKED):
        kept = np.arange(len(p)) // 2 != a // 2  # neither it nor its complement
        seen, held, observed, member = confidences[kept], inside[kept], confidences[a], inside[a]
        attacks = {
            "threshold (ours)": ours.confidence(p[a], y),
            "lira (ours)": ours.likelihood_ratio(ours.scaled(p[a], y), np.array([ours.scaled(q, y) for q in p[kept]]), held),
            "reference, online, one variance": algorithm_1(observed, seen, held, True, True),
            "reference, online, a row's variance": algorithm_1(observed, seen, held, True, False),
            "reference, offline, one variance": algorithm_1(observed, seen, held, False, True),
            "reference, offline, a row's variance": algorithm_1(observed, seen, held, False, False),
        }
        for attack, score in attacks.items():
            found.setdefault(attack, []).append([auroc(member.astype(int), score), *(rate(score, member, f) for f in RATES)])
    print(f"  {'attack':<38}" + "".join(f"{h:>22}" for h in ("auc", *(f"tpr at fpr {100 * f:g} %" for f in RATES))))
    for attack, lines in found.items():
        values = np.array(lines)
        spread = t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / len(values) ** 0.5
        print(f"  {attack:<38}" + "".join(f"{f'{m:.3f} +- {s:.3f}':>22}" for m, s in zip(values.mean(0), spread, strict=True)))


class Net:
    """A network as a Predictor of the class `label`."""

    def __init__(self, schema, table, seed: int, steps: int):
        self.schema = schema
        x, y = self.arrays(table)
        self.net = networks(x, y, torch.ones(1, len(y), dtype=torch.bool), seed, steps)

    def arrays(self, table):
        data = self.schema.encode(table)
        return torch.from_numpy(data.inputs["table"]["numbers"]), torch.from_numpy(data.targets["label"]["values"]).long()

    def predict(self, table):
        p = self.net(torch.from_numpy(self.schema.encode(table, targets=False).inputs["table"]["numbers"]))[0]
        return {"label": Prediction(value=p.argmax(1), probabilities=p)}


class Small(ours.Membership):
    """As it was: shadow models train on half of the attacked rows and nothing else."""

    def _drawn(self, table, kind, target, rng):
        rows, rest = super()._drawn(table, kind, target, rng)
        return rows, rest.slice(0, 0)


def the_audit(name: str) -> None:
    x, y = ROWS[name]()
    names = [f"c{i}" for i in range(x.shape[1])]
    table, schema = numbers(torch.from_numpy(x), torch.from_numpy(y), names), number_schema(names, int(y.max()) + 1)
    half = len(y) * 2 // 3
    train, test = table.slice(0, half), table.slice(half)
    began = time.perf_counter()
    model = Net(schema, train, 0, STEPS[name])
    took = time.perf_counter() - began
    retrain = lambda rows, seed: Net(schema, rows, seed, STEPS[name])  # noqa: E731
    for what, audit in (("on half of the attacked rows alone", Small), ("as large as the run", ours.Membership)):
        subject, began = Subject(model, schema, {"train": train, "test": test}, retrain=retrain, retrain_seconds=took, seconds=600.0), time.perf_counter()
        lines = audit(rows=min(600, half // 2)).measure(subject)
        told = ", ".join(f"{k} {v:.3f}" for k, v in lines[0].details["aucs"].items())
        print(f"  the audit, {lines[0].details['shadows']} shadow models {what}, {time.perf_counter() - began:.0f} s: auc {told}")
        for line in lines:
            print(f"    {line.metric:<36} {line.value:.3f} [{line.low:.3f}, {line.high:.3f}] {line.method}")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ROWS:
        same_models(chosen)
        the_audit(chosen)
