"""The commands of a model's life: new, plan, run, predict, compare, demo."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import refuse
from .options import AsJson, decided, quiet

DEMO = {
    "name": "breast-cancer-demo",
    "data": {"source": "sklearn://breast_cancer"},
    "target": "diagnosis",
    "stages": [
        {"pretrain": {"objective": "masked", "epochs": 20}},
        {"finetune": {"objective": "supervised", "epochs": 20, "patience": 8}},
    ],
    "audit": {"require": {"accuracy": ">= 0.85", "brier": "<= 0.15"}},
}


def new(
    file: Annotated[str, typer.Argument(help="A table or a folder of pictures.")],
    target: Annotated[str | None, typer.Option(help="The column to predict, or COLUMN=KIND.")] = None,
    out: Annotated[Path | None, typer.Option(help="The task file to write.")] = None,
) -> None:
    """Look at a file and write a commented task that runs as it is."""
    from ..new import write_task

    path = write_task(file, target, out)
    print(f"wrote {path}\nnext: modelwright plan {shlex.quote(str(path))}")


def plan(task: Annotated[Path, typer.Argument(help="A task file.")], as_json: AsJson = False) -> None:
    """What will happen, before anything trains."""
    quiet()
    from ..planning import make
    from ..task import load_task
    from .show import show_plan

    made = make(load_task(task))
    print(json.dumps(made.as_json(), default=str, ensure_ascii=False)) if as_json else show_plan(made, task)


def run(
    task: Annotated[Path, typer.Argument(help="A task file.")],
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/NAME-TIME.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    register: Annotated[str | None, typer.Option(help="Register the result under this name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan, train, calibrate, audit, decide and report."""
    from ..task import load_task

    loaded = load_task(task)
    if resume and out is None:
        raise refuse("usage", "--resume needs --out", fix="name the run's folder")
    if register is not None:
        from ..registry.references import named

        named(register, where="--register")  # before hours of training, not after
    out = out or Path("runs") / f"{task.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    done = _run(loaded, out, resume)
    if register is not None:
        from ..registry.store import Registry

        print(f"registered: {Registry().register(out, register).reference}", file=sys.stderr)
    _finish(done, as_json)


def _run(task: Any, out: Path, resume: bool = False) -> Any:
    from ..running import run as go
    from .show import Progress

    quiet()
    with Progress() as progress:
        return go(task, out, resume=resume, log=progress.log)


def _finish(done: Any, as_json: bool, then: str = "") -> None:
    from .show import show_run

    print(json.dumps(done.as_json(), default=str, ensure_ascii=False)) if as_json else show_run(done)
    if then and not as_json:
        print(then)
    decided(done)


def predict(
    model: Annotated[str, typer.Argument(help="A run folder, a Hugging Face folder, a file.onnx, FILE.py:factory, or NAME@ALIAS in the registry.")],
    data: Annotated[str, typer.Option(help="A table with the model's input columns.")],
    out: Annotated[Path, typer.Option(help="Where the predictions go: .csv or .parquet.")],
    task: Annotated[Path | None, typer.Option(help="Of a model from elsewhere: the task file with its columns and labels.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder that paths of pictures in the table lie below; default: the table's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict a table, row after row."""
    from ..data import sources
    from ..foreign.predictor import Foreign
    from ..opening import predictor, remarks
    from ..task import load_task

    _fits(data, out)
    loaded = sources.load(data, where="--data")
    table = loaded.table
    answering = predictor(model, table, load_task(task) if task else None, root or loaded.root)
    answers, notes = answering.answer(table), remarks(model, answering.schema, table)
    notes += answering.notes if isinstance(answering, Foreign) else []
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    _put(answers, out)
    found = {"rows": answers.num_rows, "out": str(out), "notes": notes}
    print(json.dumps(found, ensure_ascii=False)) if as_json else print(f"{answers.num_rows:,} predictions in {out}")


def clean(
    data: Annotated[str, typer.Argument(help="The table that the plan speaks of.")],
    plan: Annotated[Path, typer.Option(help="A cleaning.yaml, as an audit writes it, with steps that say accept: true.")],
    out: Annotated[Path, typer.Option(help="Where the cleaned table goes: .csv or .parquet.")],
    beside: Annotated[str | None, typer.Option(help="Another table: rows that stand there, too, are copies (of test rows: the training rows).")] = None,
    as_json: AsJson = False,
) -> None:
    """Take the accepted steps of a cleaning plan, and write another file."""
    from .. import cleaning
    from ..data import sources

    _fits(data, out)
    if not plan.exists():
        raise refuse("task.missing_file", f"{plan} does not exist", where="--plan", fix="cleaning.yaml in the folder of an audit or a run that found something")
    steps = cleaning.read(plan)
    other = None if beside is None else sources.load(beside, where="--beside").table
    table, told = cleaning.cleaned(sources.load(data, where="FILE").table, steps, other)
    _put(table, out)
    found = {"rows": table.num_rows, "out": str(out), "steps": told}
    print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join([*told, f"{table.num_rows:,} rows in {out}"]))


def _fits(data: str, out: Path) -> None:
    if out.suffix not in (".csv", ".parquet"):
        raise refuse("usage", f"--out {out}: the ending must be .csv or .parquet")
    if out.exists() and Path(data).exists() and out.samefile(data):
        raise refuse("usage", f"{out} is the data itself", why="the rows would be written over", where="--out", fix="name another file")


def _put(table: Any, out: Path) -> None:
    """Whole, or not at all."""
    import pyarrow.csv
    import pyarrow.parquet

    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        (pyarrow.csv.write_csv if out.suffix == ".csv" else pyarrow.parquet.write_table)(table, half)
        half.replace(out)
    except OSError as e:
        raise OSError(e.errno, e.strerror or str(e), str(out)) from e
    finally:
        half.unlink(missing_ok=True)


def compare(run_a: Path, run_b: Path, as_json: AsJson = False) -> None:
    """Two runs, or folders of `audit`, on the same test rows: paired differences with intervals."""
    from ..compare import compare as go
    from .show import show_comparison

    found = go(run_a, run_b)
    print(json.dumps(found, ensure_ascii=False)) if as_json else show_comparison(found)


def demo(out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None, as_json: AsJson = False) -> None:
    """The whole life on embedded data, offline, in about a minute: breast-cancer measurements of 569 patients."""
    from ..task import task_of

    done = _run(task_of(DEMO), out or Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}")
    if not as_json:
        from ..artifact import open_model
        from ..data import sources
        from .show import show_answers

        patients = sources.load(DEMO["data"]["source"]).table.slice(16, 6)  # both kinds
        show_answers(open_model(done.folder).answer(patients), patients.column(DEMO["target"]).to_pylist(), DEMO["target"])
    _finish(done, as_json, then="yours:  modelwright new YOUR.csv --target COLUMN   (writes a task file; docs/quickstart.md goes on from there)")
