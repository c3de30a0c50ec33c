"""Are test rows without a label like the others? Figures are of the rows that have one: where hard rows have none, they flatter the model.

Rows lack labels by chance, or because nobody knew: annotators gave up, an outcome was never seen, or someone left out what the model gets wrong. The model
itself tells the last from the first: it is less sure of the rows that lack a label (Mann and Whitney 1947, of its highest probability; of whole clusters
where there are any). Then figures of classes have no interval, for none holds for all rows: `accuracy.labels_missing`. Left out: numbers as targets, and
rows that are not in the file at all.
"""

from __future__ import annotations

import numpy as np

from ..forms import Measurement
from ..subject import Subject

RESTS = ("accuracy", "slices", "calibration", "conformal", "fairness")  # whose figures rest on the labels of the test rows
FEW, ALARM, LESS = 0.02, 1e-3, 0.55  # share of rows that may lack a label; false alarms; how often one of them is the less sure of two


def mark(subject: Subject, measured: list[Measurement]) -> None:
    """Takes the intervals from figures of targets whose labels are missing where the model is unsure, and says why."""
    for target in dict.fromkeys(m.target for m in measured if m.audit in RESTS and m.target in subject.schema.truths and m.value is not None):
        why = unsure(subject, target)
        for line in measured if why else ():
            if line.target == target and line.audit in RESTS and line.value is not None:
                line.low = line.high = None
                line.reasons, line.details = list(dict.fromkeys([*line.reasons, "accuracy.labels_missing"])), {**line.details, **why}
                line.method = "none: labels are missing where the model is unsure"


def unsure(subject: Subject, target: str) -> dict[str, float]:
    """Of the test rows: the share without a label, and how often one of those is answered less surely than one with a label; {} where they are alike."""
    from scipy.stats import mannwhitneyu

    kind, table = subject.schema.truths[target], subject.splits["test"]
    if kind.labels_ is None or target not in table.column_names:
        return {}
    column = kind.column(table, target)
    lacks, p = ~column.is_valid().to_numpy().astype(bool), subject.predict("test")[target].probabilities
    if p is None or p.ndim != 2 or not FEW < lacks.mean() < 1:
        return {}
    sure, units = p.max(1).values.double().numpy(), subject.clusters_of("test")
    if units is not None:  # rows of a cluster lack labels together
        number = np.unique(units, return_inverse=True)[1]
        size = np.bincount(number)
        sure, lacks = np.bincount(number, sure) / size, np.bincount(number, lacks) / size >= 0.5
    if not 0 < lacks.sum() < len(lacks):
        return {}
    found = mannwhitneyu(sure[lacks], sure[~lacks], alternative="less")
    less = 1 - found.statistic / (lacks.sum() * (~lacks).sum())
    return {"without_a_label": float(lacks.mean()), "less_sure_of_these": float(less)} if found.pvalue < ALARM and less > LESS else {}
