"""What answers is what is digested: a model folder that becomes another while it is read or asked is refused, and a function is its files, too."""

import shutil

import pyarrow as pa
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer

import modelwright as mw
from modelwright import auditing
from modelwright.auditing import case
from modelwright.errors import Refusal
from modelwright.foreign.reads import texts
from modelwright.registry.store import Registry


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """With two runs of one task, whose models differ."""
    folder = tmp_path_factory.mktemp("swapped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELWRIGHT_HOME", str(folder / "home"))
        load_breast_cancer(as_frame=True).frame.iloc[:240, -6:].to_csv(folder / "data.csv", index=False)
        tree = {"data": "data.csv", "target": {"target": "category"}, "audit": {"require": {"accuracy": ">= 0.5"}}}
        for b in ("linear", "majority"):
            mw.run(mw.task_of(tree | {"model": {"instead": b}}, root=folder), folder / b)
    return folder


def swap(run, other):
    shutil.rmtree(run / "model")
    shutil.copytree(other / "model", run / "model")


@pytest.mark.parametrize("moment", ["before it is digested again", "while it is asked"])
def test_the_evidence_names_the_bytes_that_answered(home, tmp_path, monkeypatch, moment):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(home / "home"))
    run, other = home / f"run {moment}", home / "majority"
    shutil.copytree(home / "linear", run)
    known = len(Registry().history())
    place, name = (case, "open_model") if moment.startswith("before") else (auditing, "measure")
    whole = getattr(place, name)

    def then_swapped(*given, **more):
        made = whole(*given, **more)
        swap(run, other)
        return made

    monkeypatch.setattr(place, name, then_swapped)
    with pytest.raises(Refusal, match="changed while it was read or asked") as e:
        mw.audit(run, out=tmp_path / "out", only=["accuracy"])
    assert e.value.problems[0].code == "model.changed" and not (tmp_path / "out" / "evidence.json").exists()
    assert [line.what for line in Registry().history()[known:]] == ["open"] * (name == "measure")
    monkeypatch.undo()
    monkeypatch.setenv("MODELWRIGHT_HOME", str(home / "home"))
    assert mw.audit(run, out=tmp_path / "again", only=["accuracy"]).decision["verdict"]  # what lies there now, and stays


CODE = """
import json
import os
from pathlib import Path

import numpy as np

import halves

NATIVE = "native.bin"

def factory():
    weight = json.loads((Path(__file__).parent / "weight.json").read_text())
    Path("log.txt").write_text("what it writes itself is no part of it")
    Path("log.txt").read_text()
    with open(os.open(NATIVE, os.O_RDONLY)) as f:
        f.read()
    def answer(table):
        (Path(__file__).parent / "late.txt").read_text()
        return halves.two(1 / (1 + np.exp(-weight * (table.to_pandas().to_numpy()[:, 0] - 25))))
    return answer
"""


def test_a_functions_digest_is_of_what_it_reads(home, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    (tmp_path / "halves.py").write_text("import numpy as np\n\ndef two(p):\n    return np.stack([1 - p, p], 1)\n")
    for name, text in {"model.py": CODE, "weight.json": "-0.3", "native.bin": "0", "late.txt": "", "other.txt": ""}.items():
        (tmp_path / name).write_text(text)
    task = mw.task_of({"data": str(home / "data.csv"), "target": "target"}, root=tmp_path)

    def audited(name="out"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        done = mw.audit(f"{tmp_path}/model.py:factory", {"test": str(home / "data.csv")}, task, tmp_path / name, only=["accuracy"])
        return done.evidence["model"], done.evidence["evidence"][0]["details"]["test_models"]

    first = audited()
    assert "of what it reads: halves.py, late.txt, native.bin, weight.json" in (tmp_path / "out" / "report.html").read_text("utf-8")
    (tmp_path / "other.txt").write_text("changed")
    assert audited() == first == (first[0], 1), "the same files are the same model"
    for i, name in enumerate(("weight.json", "halves.py", "native.bin", "late.txt")):
        (tmp_path / name).write_text((tmp_path / name).read_text() + " ")
        assert audited()[1] == 2 + i, "another model on the same test rows"
    then = 'table.num_rows > 8 and (Path(__file__).parent / ("oth" + "er.txt")).read_text(); return halves'
    (tmp_path / "model.py").write_text(CODE.replace("return halves", then))
    with pytest.raises(Refusal, match="changed while it was read or asked"):
        audited()


def test_cells_name_files_wherever_texts_stand():
    table = pa.table({
        "list": [["a.png", None], []], "struct": [{"path": "b.png", "bytes": b"x"}, None], "names": pa.array(["c.png", "c.png"]).dictionary_encode(),
        "large": pa.array(["d.png", None], pa.large_string()), "bytes": [b"e.png", b""], "number": [1, 2],
    })  # fmt: skip
    assert {c for column in table.columns for c in texts(column)} == {"a.png", "b.png", "c.png", "d.png"}


PICTURES = """
import os
from pathlib import Path

import numpy as np
from PIL import Image

def factory():
    def answer(table):
        (Path(__file__).parent / ("late" + ".txt")).read_text()
        Path("cache.txt").write_text("what it writes itself")
        bright = np.array([np.asarray(Image.open(os.path.join(ROOT, c))).mean() / 255 for c in table.column("scan").to_pylist()])
        return np.stack([1 - bright, bright], 1)
    return answer
"""


@pytest.mark.parametrize("cells", ["beside the code", "beside the table", "below a root elsewhere", "in full"])
def test_pictures_that_cells_name_are_data_and_no_part_of_the_model(tmp_path, monkeypatch, cells):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    code, tables = tmp_path / "code", tmp_path / "tables"
    root = {"beside the code": code, "below a root elsewhere": tmp_path / "pictures"}.get(cells, tables)
    for folder in (code, tables, root / "test"):
        folder.mkdir(parents=True, exist_ok=True)
    rows = ["scan,bright"]
    for i in range(24):
        Image.new("L", (8, 8), 200 * (i % 2) + i).save(root / "test" / f"{i}.png")
        rows.append(f"{root if cells == 'in full' else '.'}/test/{i}.png,{['no', 'yes'][i % 2]}")
    (tables / "test.csv").write_text("\n".join(rows))
    (code / "model.py").write_text(PICTURES.replace("ROOT", repr("" if cells == "beside the code" else str(root))))
    (code / "late.txt").write_text("")
    task = mw.task_of({"data": {"source": str(tables / "test.csv"), "root": str(root), "columns": {"scan": "image"}}, "target": "bright"}, root=tmp_path)

    def audited():
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        done = mw.audit(f"{code}/model.py:factory", {"test": str(tables / "test.csv")}, task, tmp_path / "out", only=["accuracy"])
        return done.evidence["model"], next(line["value"] for line in done.evidence["evidence"] if line["metric"] == "accuracy")

    first = audited()
    assert first[1] == 1 and audited() == first
    assert "model.py and of what it reads: late.txt." in (tmp_path / "out" / "report.html").read_text("utf-8")
    Image.new("L", (8, 8), 2).save(root / "test" / "0.png")
    assert audited()[0] == first[0], "another picture is other data"
    (code / "late.txt").write_text("weights that are read at the first question")
    assert audited()[0] != first[0]
    late = (code / "model.py").read_text().replace('("late" + ".txt")', '("late.txt" if table.num_rows <= 8 else "oth" + "er.txt")')
    (code / "model.py").write_text(late)
    (code / "other.txt").write_text("weights that no cell names, first read when the test rows are asked about")
    with pytest.raises(Refusal, match="changed while it was read or asked"):
        audited()
