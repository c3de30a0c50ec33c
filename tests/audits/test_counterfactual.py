"""Counterfactuals flip what they say, change as little as a search over everything would, and leave alone what cannot change."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch

from modelwright import find
from modelwright.counterfactuals import counterfactuals, distances
from modelwright.data.schema import Schema
from modelwright.forms import Prediction
from modelwright.kinds.category import Category
from modelwright.kinds.number import Number
from modelwright.subject import Subject


class Credit:
    """Grants where income is above 50, or above 30 with a job; never looks at age or sex. Gaps count as nothing."""

    def __init__(self, immutable=()):
        label, job, sex = Category(["no", "yes"]), Category(["none", "some"]), Category(["f", "m"])
        for kind, names in ((label, ["no", "yes"]), (job, ["none", "some"]), (sex, ["f", "m"])):
            kind.labels_ = names
        self.schema = Schema({"income": Number(), "age": Number(), "job": job, "sex": sex}, {"granted": label}, immutable=list(immutable))
        g = np.random.default_rng(0)
        n = 300
        income, age = g.integers(5, 90, n), g.uniform(20, 80, n)
        job_, sex_ = g.choice(["none", "some"], n), g.choice(["f", "m"], n)
        self.table = pa.table({"income": pa.array(income, pa.int32()), "age": age, "job": job_, "sex": sex_})
        said = self.predict(self.table)["granted"].value
        self.table = self.table.append_column("granted", pa.array(["yes" if v else "no" for v in said]))

    def predict(self, table):
        income = np.array([0 if v is None else v for v in table.column("income").to_pylist()])
        job = np.array([v == "some" for v in table.column("job").to_pylist()])
        yes = torch.from_numpy((income > 50) | ((income > 30) & job))
        p = torch.where(yes, 0.9, 0.1) + 0.001 * torch.from_numpy(income)
        return {"granted": Prediction(value=yes.long(), probabilities=torch.stack([1 - p, p], 1))}


def changed(table, i, cells):
    row = table.slice(i, 1)
    for name, (before, after) in cells.items():
        assert row.column(name)[0].as_py() == before != after
        row = row.set_column(row.column_names.index(name), name, pa.array([after], row.column(name).type))
    return row


def test_each_flips_the_decision_with_values_that_occur():
    model = Credit()
    found = counterfactuals(model, model.schema, "granted", model.table.slice(0, 30), model.table.slice(30))
    assert all(c is not None for c in found)
    for i, c in enumerate(found):
        assert c.row == i and c.before == int(model.predict(model.table.slice(i, 1))["granted"].value) != c.after
        assert int(model.predict(changed(model.table, i, c.cells))["granted"].value) == c.after
        assert all(after in model.table.column(n).to_pylist() for n, (_, after) in c.cells.items())
        assert set(c.cells) <= {"income", "job"}  # nothing else matters, and what is not needed was put back


def test_as_few_cells_as_any_copy_from_any_row_needs():
    model = Credit()
    rows, pool = model.table.slice(0, 8), model.table.slice(8, 40)
    names = [n for n in model.schema.inputs]
    for i, c in enumerate(counterfactuals(model, model.schema, "granted", rows, pool)):
        fewest = min(
            k
            for k in range(1, 5)
            for some in itertools.combinations(names, k)
            if len(model.predict(copies(rows, i, pool, some))["granted"].value.unique()) == 2
            or int(model.predict(copies(rows, i, pool, some))["granted"].value[0]) != c.before
        )
        assert len(c.cells) == fewest


def copies(rows, i, pool, some):
    """Row i once for each row of the pool, with some cells of it."""
    made = rows.take(pa.array([i] * pool.num_rows))
    for name in some:
        made = made.set_column(made.column_names.index(name), name, pool.column(name))
    return made


def test_what_cannot_change_does_not():
    model = Credit(immutable=["income"])
    found = counterfactuals(model, model.schema, "granted", model.table.slice(0, 60), model.table)
    income, job = (model.table.column(n).to_pylist() for n in ("income", "job"))
    for i, c in enumerate(found):
        assert (c is not None) == (30 < income[i] <= 50) and (c is None or set(c.cells) == {"job"}), (income[i], job[i])


def test_distances_are_sums_of_shares_of_the_spread():
    a, b = np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([[2.0, 0.0], [np.nan, 0.0]])
    of = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0], [4, 0]])
    assert distances(a, b, [True, False], np.array([True, True]), of).tolist() == [[2 / 2 + 1, 1 + 1], [1 + 0, 0]]


def test_validity_and_cells_are_measured_and_groups_stay():
    model = Credit(immutable=["sex"])
    subject = Subject(model, model.schema, {"test": model.table.slice(0, 60), "train": model.table.slice(60)})
    valid, cells = find.make("audits", "counterfactual").measure(subject)
    assert valid.metric == "explanation.counterfactual_validity" and valid.value == 1.0 and valid.low > 0.9
    assert cells.metric == "explanation.counterfactual_cells" and 1 <= cells.value < 1.5 and cells.low <= cells.value <= cells.high
    assert next(iter(valid.details["changed_most"])) == "income" and valid.details["immutable"] == ["sex"]


def test_declared_or_grouped_columns_are_immutable_and_saved(tmp_path):
    from modelwright.preparing import prepare
    from modelwright.task import task_of

    columns = {"age": {"immutable": True}, "sex": {"group": True}, "job": {"group": True, "immutable": False}}
    path = tmp_path / "t.csv"
    pa.csv.write_csv(Credit().table, path)
    schema = prepare(task_of({"data": {"source": str(path), "columns": columns}, "target": "granted"})).schema
    assert schema.immutable == ["age", "sex"] and Schema.from_json(schema.to_json()).immutable == ["age", "sex"]
    older = {k: v for k, v in schema.to_json().items() if k != "immutable"}
    assert Schema.from_json(older).immutable == ["sex", "job"]
