"""The commands: one per step of the life. Results go to standard output, progress to standard error; --json prints one JSON object.

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_versions import add_to
from .errors import ModelwrightError, Problem, did_you_mean, refuse

app = typer.Typer(
    help="From raw data to a model that you can defend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich would double the time that it takes
    context_settings={"max_content_width": 120},
)
PATH_ERRORS = (errno.EPERM, errno.ENOENT, errno.EACCES, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def main() -> None:
    """Every way out has its exit status (see the contract)."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # somebody's own stream
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fall
    with contextlib.suppress(ValueError):  # outside the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is half written is removed, and nobody is left at work
    try:
        _no_empty_values(sys.argv[1:])
        status = app(standalone_mode=False)  # a raised Exit comes back as its status
    except ModelwrightError as e:
        _complain(e.problems)
        sys.exit(e.status)
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except BrokenPipeError:
        os._exit(0)
    except (MemoryError, RuntimeError) as e:
        if not (isinstance(e, MemoryError) or "allocate memory" in str(e) or "out of memory" in str(e)):  # torch says it with a RuntimeError
            _ours(e)
        _complain([Problem("memory.full", "out of memory", fix="a smaller batch_size or micro_batch; --resume goes on")])
        sys.exit(4)
    except OSError as e:
        said = re.search(r"\[Errno (\d+)\]", str(e)) if e.errno is None else None  # shutil.copytree's: a list of texts
        if (int(said[1]) if said else e.errno) in DISK_ERRORS:
            what = f"{e.strerror or 'no space is left'}: {e.filename2 or e.filename or 'the disk that is written to'}"
            _complain([Problem("disk.full", what, fix="free some space" + ", and go on with --resume" * ("run" in sys.argv[1:2]))])
            sys.exit(4)
        if e.errno in PATH_ERRORS and e.filename is not None:
            _complain(
                [
                    Problem(
                        "path.unusable",
                        f"{e.strerror}: {e.filename2 or e.filename}",
                        fix="name a place that can be written (or a file that can be read)",
                    )
                ]
            )
            sys.exit(2)
        _ours(e)
    except Exception as e:
        if hasattr(e, "format_message"):  # click's usage errors
            _complain([Problem("usage", e.format_message(), fix=_elsewhere(e.format_message()) or "modelwright --help")])
            sys.exit(2)
        _ours(e)
    if status == 130:  # typer's own answer to Ctrl-C
        exec("")  # noqa: S102 - under `python -m`, CPython leaves by the signal after a Ctrl-C inside an exec of text (a dataclass being made), till the next exec
        _complain([Problem("run.interrupted", "interrupted", fix="a run goes on with --resume" * ("run" in sys.argv[1:2]))])
    sys.exit(status if isinstance(status, int) else 0)


def _no_empty_values(words: list[str]) -> None:
    """`--out "$OUT"` without an OUT would be the folder that one is in: what lies there would be read, or written over."""
    for option, word in zip(["", *words], words, strict=False):
        if (word == "" or re.fullmatch(r"--(?!why)[a-z-]+=", word)) and option != "--why":
            what = f"{word.rstrip('=') or (option if option.startswith('--') else 'an argument')} has an empty value"
            raise refuse("usage", what, why="a variable of the shell that is not set gives one", fix="name what is meant, or leave it out")


def _elsewhere(message: str) -> str:
    """Where a command that does not exist here is one of a group: `verify` is `registry verify`."""
    unknown = re.match(r"No such command '(\w+)'", message)
    groups = typer.main.get_command(app).commands if unknown else {}
    found = [f"{n} {unknown[1]}" for n, group in groups.items() if unknown[1] in getattr(group, "commands", {})]
    return f"did you mean `modelwright {found[0]}`?" if found else ""


def _quiet() -> None:
    """The accountant's remarks on orders that it leaves out, which only widens its bound, are no news for a terminal. Not before a command needs it."""
    import logging

    logging.getLogger("absl").setLevel(logging.ERROR)


def _complain(problems: list[Problem]) -> None:
    if "--json" in sys.argv:
        try:
            return print(json.dumps({"errors": [p.as_json() for p in problems]}, ensure_ascii=False), flush=True)
        except OSError:  # what is full is where it would be said
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    head = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    print(f"modelwright: {head}\n\n" + "\n\n".join(str(p) for p in problems), file=sys.stderr)


def _ours(e: BaseException) -> None:
    import traceback

    traceback.print_exception(e)
    print("\nThis is a fault of Modelwright, not yours. Please report it with the lines above.", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps({"errors": [{"code": "internal", "what": f"{type(e).__name__}: {e}", "why": "", "where": "", "fix": "please report it"}]}))
    sys.exit(1)


@app.command()
def new(
    file: Annotated[str, typer.Argument(help="A table or a folder of pictures.")],
    target: Annotated[str | None, typer.Option(help="The column to predict, or COLUMN=KIND.")] = None,
    out: Annotated[Path | None, typer.Option(help="The task file to write.")] = None,
) -> None:
    """Look at a file and write a commented task that runs as it is."""
    from .new import write_task

    path = write_task(file, target, out)
    print(f"wrote {path}\nnext: modelwright plan {shlex.quote(str(path))}")


@app.command()
def plan(task: Annotated[Path, typer.Argument(help="A task file.")], as_json: AsJson = False) -> None:
    """What will happen, before anything trains."""
    _quiet()
    from .planning import make
    from .show import show_plan
    from .task import load_task

    made = make(load_task(task))
    print(json.dumps(made.as_json(), default=str, ensure_ascii=False)) if as_json else show_plan(made, task)


@app.command()
def run(
    task: Annotated[Path, typer.Argument(help="A task file.")],
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/NAME-TIME.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    register: Annotated[str | None, typer.Option(help="Register the result under this name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan, train, calibrate, audit, decide and report."""
    from .task import load_task

    loaded = load_task(task)
    if resume and out is None:
        raise refuse("usage", "--resume needs --out", fix="name the run's folder")
    if register is not None:
        from .registry.references import named

        named(register, where="--register")  # before hours of training, not after
    out = out or Path("runs") / f"{task.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    done = _run(loaded, out, resume)
    if register is not None:
        from .registry.store import Registry

        print(f"registered: {Registry().register(out, register).reference}", file=sys.stderr)
    _finish(done, as_json)


def _run(task: Any, out: Path, resume: bool = False) -> Any:
    from .running import run as go
    from .show import Progress

    _quiet()
    with Progress() as progress:
        return go(task, out, resume=resume, log=progress.log)


def _finish(done: Any, as_json: bool, then: str = "") -> None:
    from .show import show_run

    print(json.dumps(done.as_json(), default=str, ensure_ascii=False)) if as_json else show_run(done)
    if then and not as_json:
        print(then)
    if done.decision is not None and done.decision["verdict"] != "pass":
        raise typer.Exit(3)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A run folder, a Hugging Face folder, a file.onnx, FILE.py:factory, or NAME@ALIAS in the registry.")],
    data: Annotated[str, typer.Option(help="A table with the model's input columns.")],
    out: Annotated[Path, typer.Option(help="Where the predictions go: .csv or .parquet.")],
    task: Annotated[Path | None, typer.Option(help="Of a model from elsewhere: the task file with its columns and labels.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder that paths of pictures in the table lie below; default: the table's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict a table, row after row."""
    import pyarrow.csv
    import pyarrow.parquet

    from .data import sources
    from .foreign.predictor import Foreign
    from .opening import predictor, remarks
    from .task import load_task

    if out.suffix not in (".csv", ".parquet"):
        raise refuse("usage", f"--out {out}: the ending must be .csv or .parquet")
    if out.exists() and Path(data).exists() and out.samefile(data):
        raise refuse("usage", f"{out} is the data itself", why="the rows would be written over", where="--out", fix="name another file")
    loaded = sources.load(data, where="--data")
    table = loaded.table
    answering = predictor(model, table, load_task(task) if task else None, root or loaded.root)
    answers, notes = answering.answer(table), remarks(model, answering.schema, table)
    notes += answering.notes if isinstance(answering, Foreign) else []
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        (pyarrow.csv.write_csv if out.suffix == ".csv" else pyarrow.parquet.write_table)(answers, half)
        half.replace(out)
    except OSError as e:
        raise OSError(e.errno, e.strerror or str(e), str(out)) from e
    finally:
        half.unlink(missing_ok=True)
    found = {"rows": answers.num_rows, "out": str(out), "notes": notes}
    print(json.dumps(found, ensure_ascii=False)) if as_json else print(f"{answers.num_rows:,} predictions in {out}")


@app.command()
def audit(
    model: Annotated[str | None, typer.Argument(help="A run or Hugging Face folder, a file.onnx, FILE.py:factory, NAME@ALIAS; none: the data alone.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="[ROLE=]FILE: train, validation, calibration, test (default), reference, ood, ood_near, ood_far, trusted, planted.")
    ] = None,
    task: Annotated[Path | None, typer.Option(help="A task file: columns, target, labels, limits.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the report; default audits/TIME.")] = None,
    reproduce: Annotated[Path | None, typer.Option(help="An evidence.json: measure all of it again, and say same or different.")] = None,
    only: Annotated[str | None, typer.Option(help="Some audits, joined by commas; default all.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time after which no further audit begins: 90s, 2m.")] = None,
    explainer: Annotated[str | None, typer.Option(help="FILE.py:explain, which is audited: explain(model, x, target) -> like x.")] = None,
    trainer: Annotated[str | None, typer.Option(help="FILE.py:factory, a private training step, which is audited against its --statement.")] = None,
    statement: Annotated[Path | None, typer.Option(help="A JSON file: claim, rows, sample_rate, noise_multiplier, clip, steps, divisor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure any model on data it has not seen, decide, and report."""
    _quiet()
    from .auditing import audit as go
    from .show import Progress, show_audit
    from .task import load_task

    out = out or Path("audits") / time.strftime("%Y%m%d-%H%M%S")
    if reproduce is not None:
        if model or data or task or only or budget or explainer or trainer or statement:
            fix = "audit --reproduce EVIDENCE.json --out FOLDER"
            raise refuse("usage", "--reproduce repeats what lies beside the evidence: it takes --out alone", where="--reproduce", fix=fix)
        from .reproducing import reproduce as again

        found = again(reproduce, out)
        words = [f"not shown: {s['figure']} was {s['before']}, is {s['now']}: {s['why']}" for s in found["skipped"]]
        words += [f"different: {d['figure']} was {d['before']}, is {d['now']}" for d in found["differences"]]
        known = "the registry recorded this very file" if found["recorded"] else "the registry has no record of this file: changed since, or measured elsewhere"
        words += [known, f"{'same' if found['same'] else 'different'}: {found['figures']} figures were measured again"]
        print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(words))
        raise typer.Exit(0 if found["same"] else 3)
    if (trainer is None) != (statement is None) or (trainer is not None and (model or data)):
        raise refuse("usage", "--trainer and --statement go together, without a model or data", fix="audit --trainer FILE.py:factory --statement FILE.json")
    roles: dict[str, str] = {}
    for given in data or []:
        role, equals, file = given.partition("=")
        role, file = (role, file) if equals and role.isalpha() else ("test", given)
        if role in roles:
            raise refuse("usage", f"two files for {role}", where="--data", fix="give each role once")
        roles[role] = file
    wanted = load_task(task) if task else None
    with Progress() as progress:
        if trainer is not None:
            from .claims import audit as try_trainer

            done = try_trainer(trainer, statement, wanted, out, budget=_seconds(budget), log=progress.log)
        else:
            some = only.split(",") if only else None
            done = go(model, roles, wanted, out, budget=_seconds(budget), only=some, explainer=explainer, log=progress.log)
    print(json.dumps(done.as_json(), default=str, ensure_ascii=False)) if as_json else show_audit(done)
    if done.decision is not None and done.decision["verdict"] != "pass":
        raise typer.Exit(3)
    if not as_json and done.decision and model and ".py:" not in model and not Path(model).exists():
        print(f"next:   modelwright promote {model} --alias production")


def _seconds(text: str | None) -> float | None:
    """90, 90s, 2m, 1h"""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    if not re.fullmatch(r"\d{1,9}(\.\d+)?", number):
        raise refuse("usage", f"{text!r} is no time", where="--budget", fix="write 90s, 2m or 1h")
    return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]


@app.command()
def compare(run_a: Path, run_b: Path, as_json: AsJson = False) -> None:
    """Two runs, or folders of `audit`, on the same test rows: paired differences with intervals."""
    from .compare import compare as go
    from .show import show_comparison

    found = go(run_a, run_b)
    print(json.dumps(found, ensure_ascii=False)) if as_json else show_comparison(found)


@app.command()
def demo(out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None, as_json: AsJson = False) -> None:
    """The whole life on embedded data, offline, in about a minute: breast-cancer measurements of 569 patients."""
    from .task import task_of

    done = _run(task_of(DEMO), out or Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}")
    if not as_json:
        from .artifact import open_model
        from .data import sources
        from .show import show_answers

        patients = sources.load(DEMO["data"]["source"]).table.slice(16, 6)  # both kinds
        show_answers(open_model(done.folder).answer(patients), patients.column(DEMO["target"]).to_pylist(), DEMO["target"])
    _finish(done, as_json, then="yours:  modelwright new YOUR.csv --target COLUMN   (writes a task file; docs/quickstart.md goes on from there)")


@app.command()
def policy(name: Annotated[str | None, typer.Argument(help="A ready policy; without one they are listed.")] = None) -> None:
    """A ready policy's text, to copy and tighten: modelwright policy credit > mine.yaml."""
    from .registry import policy as policies

    if name is None:
        print("\n".join(f"{path.stem:<14} {policies.about(path)}" for path in policies.ready()))
        return
    texts = {path.stem: path for path in policies.ready()}
    if name not in texts:
        raise refuse("policy.missing", f"there is no ready policy {name!r}", where="NAME", fix=did_you_mean(name, texts))
    print(texts[name].read_text(encoding="utf-8"), end="")


@app.command()
def components(as_json: AsJson = False) -> None:
    """What exists, with one line each."""
    from . import find

    found = {folder: {n: find.summary(folder, n) for n in find.names(folder)} for folder in find.FOLDERS}
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for folder, entries in found.items():
        print(folder)
        for n, line in entries.items():
            print(f"  {n:<14} {line}")


@app.command()
def schema() -> None:
    """The JSON Schema of task files, for completion in an editor."""
    from .task import json_schema

    print(json_schema())


add_to(app)
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

if __name__ == "__main__":
    main()
