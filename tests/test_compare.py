"""Two runs, or two audits, on the same rows: paired; what cannot be paired is refused with what to do instead."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import modelwright as mw
from modelwright.compare import compare
from modelwright.errors import Refusal

THEIRS = "import numpy as np\ndef factory(): return lambda table: np.array([[0.4, 0.6]] * table.num_rows)\n"


def rows(n, seed):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return pa.table({"a": a, "b": rng.normal(size=n), "y": np.where(a + 0.3 * rng.normal(size=n) > 0, "yes", "no")})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """runs a and b on one split; audits of a, b and a function on one other file; an audit of the data alone."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELWRIGHT_HOME", str(folder / "home"))
        for name, seed, n in (("d", 0, 200), ("n", 1, 80)):
            pyarrow.csv.write_csv(rows(n, seed), folder / f"{name}.csv")
        (folder / "their.py").write_text(THEIRS)
        for name in ("a", "b"):
            task = f"data: d.csv\ntarget: y\nseed: {ord(name)}\nstages:\n  - train: {{steps: 5}}\n"
            (folder / f"{name}.yaml").write_text(task)
            mw.run(folder / f"{name}.yaml", folder / name)
            mw.audit(folder / name, {"test": folder / "n.csv"}, out=folder / f"audit-{name}", only=["accuracy"])
        theirs = f"{folder / 'their.py'}:factory"
        mw.audit(theirs, {"train": folder / "d.csv", "test": folder / "n.csv"}, folder / "a.yaml", folder / "audit-theirs", only=["accuracy"])
        mw.audit(None, {"test": folder / "n.csv"}, folder / "a.yaml", folder / "audit-data")
        yield folder


def test_audits_of_our_models_and_of_others_are_paired_on_their_rows(place):
    found = compare(place / "audit-a", place / "audit-theirs")
    (line,) = [d for d in found["differences"] if d["metric"] == "accuracy"]
    table = rows(80, 1)
    truth = np.array(table.column("y").to_pylist())
    ours = np.array(mw.load(place / "a").answer(table).column("y").to_pylist()) == truth
    assert found["rows"] == 80 and abs(line["a"] - ours.mean()) < 1e-9 and abs(line["b"] - (truth == "yes").mean()) < 1e-9
    assert abs(line["value"] - (line["a"] - line["b"])) < 1e-9
    assert {d["metric"] for d in compare(place / "audit-a", place / "audit-b")["differences"]} >= {"accuracy", "auroc", "nll"}


def test_other_rows_are_refused_with_what_to_do(place):
    with pytest.raises(Refusal) as e:
        compare(place / "a", place / "audit-a")
    assert e.value.problems[0].code == "compare.rows" and "audit both on one file" in e.value.problems[0].fix


@pytest.mark.parametrize("folder", ["audit-data", "home", "nothing"])
def test_what_is_no_model_is_refused(place, folder):
    with pytest.raises(Refusal) as e:
        compare(place / "audit-a", place / folder)
    assert e.value.problems[0].code == "compare.run"


def test_a_model_or_data_that_changed_since_is_refused(place):
    before = (place / "n.csv").read_text()
    try:
        (place / "n.csv").write_text(before.replace("yes", "no", 1))
        with pytest.raises(Refusal, match="the data changed"):
            compare(place / "audit-a", place / "audit-theirs")
        (place / "n.csv").write_text(before)
        (place / "their.py").write_text(THEIRS.replace("0.4, 0.6", "0.6, 0.4"))
        with pytest.raises(Refusal, match="the model changed"):
            compare(place / "audit-theirs", place / "audit-a")
    finally:
        (place / "n.csv").write_text(before)
        (place / "their.py").write_text(THEIRS)
