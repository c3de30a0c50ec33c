"""Wrong labels in real pictures: how many and which our data audit finds, against cleanlab, from the same out-of-fold probabilities.

    MODELWRIGHT_DATA=... python benchmarks/label_errors.py [--rows 3000] [--seed 0] [--tables 0]

fashion_mnist, a random subset, 5 and 10 % of the labels flipped: to any other class alike, or to the class that each is most often taken for. `rate`: the
audit's label_error_rate with its interval against what was planted. Precision and recall are of the rows that each names (ours: `labels.suspects`;
cleanlab: `find_label_issues` with its defaults, pruning by noise rate), average precision (ap) of their rankings (cleanlab: label quality by normalised
margin and by self confidence, its default). Intervals at 95 %: Clopper-Pearson, and the jackknife over rows for ap; differences of ap are
paired. fashion_mnist has wrong labels of its own, which count against both. Without cleanlab installed our lines alone are printed.

--tables N: instead, N made tables each of overlap and noise: the mean of the rate, how often its interval held what was planted and how often it said
surely more than 0, beside cleanlab's rate (its estimated joint's share off the diagonal) and the one among the surest tenth that the audit had before.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import pyarrow.parquet as pq

from modelwright import find, metrics
from modelwright.checks import labels
from modelwright.checks.learner import features, out_of_fold
from modelwright.data.schema import Schema
from modelwright.intervals import interval, paired
from modelwright.kind import Metric

LIKE = {0: 6, 1: 3, 2: 4, 3: 0, 4: 2, 5: 7, 6: 0, 7: 5, 8: 6, 9: 7}  # T-shirt and shirt, pullover and coat, sandal and sneaker, boot and sneaker


def flipped(y: np.ndarray, rate: float, how: str, rng: np.random.Generator) -> np.ndarray:
    """(N,) labels of which a share is wrong."""
    hit = rng.random(len(y)) < rate
    other = np.array([LIKE[v] for v in y]) if how == "class-dependent" else (y + rng.integers(1, 10, len(y))) % 10
    return np.where(hit, other, y)


def shown(metric: Metric, n: int) -> str:
    i = interval(metric, n, level=0.95)
    return f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]"


def ap(wrong: np.ndarray, score: np.ndarray) -> Metric:
    """Average precision over rows, of a score that is high where a label looks wrong."""
    return Metric(lambda i: metrics.average_precision(wrong[i], score[i]), of=wrong.astype(int))


def tables(draws: int, n: int, joint) -> None:
    for classes, apart, sd in ((2, 4.0, 1), (2, 2.0, 1), (2, 1.2, 1), (3, 2.5, 1), (5, 3.0, 1)):
        for rate in (0.0, 0.05, 0.1, 0.2):
            seen = []
            for seed in range(draws):
                rng = np.random.default_rng(seed)
                right = rng.integers(0, classes, n)
                x = np.eye(classes, 6)[right] * apart / 2**0.5 + sd * rng.normal(size=(n, 6))
                y = np.where(rng.random(n) < rate, (right + rng.integers(1, classes, n)) % classes, right)
                p, planted = out_of_fold(x.astype(np.float32), y, classes, seed), float((y != right).mean())
                i, _ = labels.error_rate(p, y, 0.95)
                top = labels.surety(p) > 0.9
                theirs = 1 - np.trace(joint(y, p)) if joint else np.nan
                seen.append((planted, i.value, i.low <= planted <= i.high, i.low > 0, i.high, (p.argmax(1) != y)[top].mean(), theirs))
            m = np.mean(seen, 0)
            line = f"{classes} classes {apart} apart, {m[0]:.3f} wrong: rate {m[1]:.3f}, held {m[2]:.2f}, surely more than 0 {m[3]:.2f}, high end {m[4]:.3f}"
            print(f"{line}; surest tenth {m[5]:.3f}; cleanlab {m[6]:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tables", type=int, default=0)
    args = parser.parse_args()
    try:
        from cleanlab.count import estimate_joint
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        find_label_issues = estimate_joint = None
    if args.tables:
        return tables(args.tables, args.rows, estimate_joint)
    table = pq.read_table(os.path.join(os.environ["MODELWRIGHT_DATA"], "fashion_mnist", "data.parquet"), columns=["image", "label"])
    rng = np.random.default_rng(args.seed)
    table = table.take(np.sort(rng.permutation(table.num_rows)[: args.rows]))
    schema = Schema({"image": find.make("kinds", {"picture": {"size": 28}})}, {"label": find.make("kinds", "category")})
    schema.fit(table)
    x, right, n = features(schema, table), table.column("label").to_numpy().astype(np.int64), table.num_rows
    for how in ("uniform", "class-dependent"):
        for rate in (0.05, 0.1):
            y, start = flipped(right, rate, how, rng), time.perf_counter()
            wrong = y != right
            p = out_of_fold(x, y, 10, args.seed)
            fitted = time.perf_counter() - start
            scores, named, seconds = {}, {}, {}
            start = time.perf_counter()
            i, _ = labels.error_rate(p, y, 0.95)
            named["ours"], scores["ours"] = np.isin(np.arange(n), labels.suspects(p, y, n)), labels.doubt(p, y)
            seconds["ours"] = time.perf_counter() - start
            if find_label_issues is not None:
                start = time.perf_counter()
                named["cleanlab"] = find_label_issues(y, p, n_jobs=1)
                scores["cleanlab"] = 1 - get_label_quality_scores(y, p)
                seconds["cleanlab"] = time.perf_counter() - start
                scores["cleanlab, margin"] = 1 - get_label_quality_scores(y, p, method="normalized_margin")
            planted = f"{how}, {wrong.mean():.3f} wrong"
            theirs = f", cleanlab {1 - np.trace(estimate_joint(y, p)):.3f}" if estimate_joint is not None else ""
            print(f"{planted}: rate {i.value:.3f} [{i.low:.3f}, {i.high:.3f}]{theirs}; probabilities took {fitted:.1f} s", flush=True)
            for who, score in scores.items():
                line = f"    {who:17s} ap {shown(ap(wrong, score), n)}"
                if who in named:
                    precision, recall = Metric.mean(wrong[named[who]]), Metric.mean(named[who][wrong])
                    line += f"  precision {shown(precision, int(named[who].sum()))}  recall {shown(recall, int(wrong.sum()))}  {seconds[who]:.2f} s"
                if who != "ours":
                    d = paired(ap(wrong, scores["ours"]), ap(wrong, score), n, level=0.95)
                    line += f"  ours - it: {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
                print(line, flush=True)


if __name__ == "__main__":
    main()
