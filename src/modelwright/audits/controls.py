"""Two controls of a training run: whether its weights moved at all, and that the same recipe learns nothing from shuffled labels.

weights_moved: the share of the network's weights that training changed, from those that its seed draws. 0 is a run that learnt nothing, whatever its
figures say: `accuracy.weights_still`. A frozen encoder moves few, rightly.

gain_of_shuffled_labels: the recipe is trained anew on the training rows with their labels shuffled (Zhang et al. 2017, "Understanding deep learning requires
rethinking generalization"; as a control: Ojala and Garriga 2010), and asked about the test rows. What it then gains over the best constant answer, in
accuracy of a class and in standard deviations of a number's error, should be nothing: a gain that is surely above 0 says that answers of test rows come in
by another way than the labels. Training anew takes its time: a limit on the figure asks for it, or `--only controls` of a run's folder.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from ..errors import Refusal, Stopped
from ..forms import Measurement
from ..intervals import interval
from ..kind import Kind, Metric
from ..subject import NOT_TRAINED, Audit, Subject

GAIN = "gain_of_shuffled_labels"


class Controls(Audit):
    def measure(self, subject: Subject) -> list[Measurement]:
        found, began, moved = [], time.perf_counter(), subject.lineage.get("moved")
        if isinstance(moved, float):
            still = ["accuracy.weights_still"] if moved == 0 else []
            found.append(self._line(subject, "weights_moved", None, (moved,) * 3, 1, "counted, from the weights that the seed draws", began, {}, still))
        for target, kind in subject.schema.truths.items():
            if "train" in subject.splits and isinstance(moved, float) and kind.head in ("classes", "binary", "ordered", "regression"):
                found.append(self._shuffled(subject, target, kind))
        return found

    def _shuffled(self, subject: Subject, target: str, kind: Kind) -> Measurement:
        began, nothing = time.perf_counter(), (None, None, None)
        if subject.retrain is None:
            return self._line(subject, GAIN, target, nothing, 0, "not measured", began, {"why": NOT_TRAINED}, ["accuracy.not_trained"])
        train, test = subject.splits["train"], subject.splits["test"]
        order = np.random.default_rng(subject.seed).permutation(train.num_rows)
        mixed = train.set_column(train.column_names.index(target), target, train.column(target).take(pa.array(order)))
        try:
            said = subject.retrain(mixed, subject.seed).predict(test)[target].value.double().numpy()
        except (Refusal, Stopped) as e:  # it diverges, or takes too long
            return self._line(subject, GAIN, target, nothing, 0, "not measured", began, {"why": str(e)}, ["accuracy.not_trained"])
        own, truth = (kind.encode_target(kind.column(t, target)) for t in (train, test))
        gain = gained(said, truth["values"], own["values"][own["known"]], kind.labels_ is not None)
        metric = Metric.mean(np.where(truth["known"], gain, np.nan))
        i = interval(metric, len(gain), level=subject.level, clusters=subject.clusters_of("test"), seed=subject.seed)
        leaks = ["accuracy.learns_from_shuffled"] if i.low > 0 else []
        details, how = {"over": "the commonest class" if kind.labels_ is not None else "the median"}, f"{i.method}; trained once on shuffled labels"
        return self._line(subject, GAIN, target, (i.value, i.low, i.high), int(truth["known"].sum()), how, began, details, leaks)

    def _line(self, subject, metric, target, ends, n, method, began, details, reasons=()) -> Measurement:
        figure = (f"accuracy.{metric}", target, "test", None, *ends, subject.level, n, method, subject.seed, time.perf_counter() - began)
        return Measurement("controls", *figure, details, list(reasons))


def gained(said: np.ndarray, truth: np.ndarray, train: np.ndarray, classes: bool) -> np.ndarray:
    """(N,) by how much each answer is better than the best constant one: of a class 0 or 1, of a standardised number the absolute error."""
    if classes:
        return (said == truth) * 1.0 - (truth == np.bincount(train.astype(np.int64)).argmax())
    return np.abs(truth - np.median(train)) - np.abs(truth - said)
