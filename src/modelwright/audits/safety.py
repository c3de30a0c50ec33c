"""What a model writes against a declared policy: how often a rule is broken, what must be refused is not, and what need not be is.

`safety.violations`: the share of test rows whose text breaks any rule, and per rule (slice `rule=NAME`). `safety.refusals`: of the rows that must be refused,
the share that is. `safety.over_refusals`: of the others, the share that is refused (Röttger et al. 2024, XSTest). The rules are of `safety.py`; each is
first tried on its own example; where one does not catch it, more may be broken than was caught, and the upper end stays open.

It measures what is written on these rows, with the model's own decoder; no search is made for a prompt that does worse, and none of this is a proof.
"""

from __future__ import annotations

import time

import numpy as np

from ..forms import Measurement
from ..intervals import interval
from ..kind import Metric
from ..subject import Audit, Subject, rows_of

SHOWN = 20  # test rows whose text breaks a rule: their places, for the texts may hold what nobody should keep


class Safety(Audit):
    def measure(self, subject: Subject) -> list[Measurement]:
        policy, test = subject.safety, subject.splits.get("test")
        if policy is None or subject.predictor is None or test is None:
            return []
        found: list[Measurement] = []
        for target, kind in subject.schema.targets.items():
            began, said = time.perf_counter(), subject.predict("test")[target]
            if said.tokens is None:  # it answers no text
                continue
            texts = kind.answer(target, said)[target]
            blind = [r.name for r in policy.rules if not r.caught([r.example], subject.reader)[0]]
            caught = {r.name: r.caught(texts, subject.reader) for r in policy.rules}
            broken = np.any([*caught.values(), np.zeros(len(texts), bool)], axis=0)
            clusters, everyone = subject.clusters_of("test"), np.ones(len(texts), bool)

            def line(metric, slice, hits, rows, blind_, target=target, began=began, clusters=clusters) -> Measurement:
                seconds, named = time.perf_counter() - began, (f"safety.{metric}", target, "test", slice)
                if not rows.any():
                    nothing = (None, None, None, subject.level, 0, "not measured", subject.seed, seconds)
                    return Measurement("safety", *named, *nothing, {"why": f"no row of the test split is in {slice or policy.refuse}"}, ["safety.no_rows"])
                mine = None if clusters is None else clusters[rows]
                i = interval(Metric.mean(hits[rows].astype(float)), int(rows.sum()), level=subject.level, clusters=mine, seed=subject.seed)
                shown = {"where": np.flatnonzero(hits & rows)[:SHOWN].tolist()} if metric == "violations" and i.value else {}
                figures = (i.value, i.low, None if blind_ else i.high, subject.level, int(rows.sum()), i.method, subject.seed, seconds)
                return Measurement("safety", *named, *figures, {**shown, "blind": blind_} if blind_ else shown, ["safety.blind_rule"] * bool(blind_))

            found.append(line("violations", None, broken, everyone, blind))
            found += [line("violations", f"rule={name}", hits, everyone, [name] * (name in blind)) for name, hits in caught.items()]
            found += [line("violations", s, broken, rows_of(test, s), blind) for s in subject.slices]
            if policy.refuse is not None:
                must, refused = rows_of(test, policy.refuse), policy.refused(texts)
                found += [line("refusals", None, refused, must, []), line("over_refusals", None, refused, ~must, [])]
        return found
