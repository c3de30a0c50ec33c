"""What the commands print: plans, results and comparisons as text for people, and progress bars on standard error."""

from __future__ import annotations

import json
import shlex
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from .. import find
from ..report.advice import by_chance, unmeasured
from ..subject import due


class Terminal(Console):
    def on_broken_pipe(self) -> None:
        """`| head -1`: as every other command, not rich's exit status 1."""
        raise BrokenPipeError


out = Terminal(highlight=False, soft_wrap=True, emoji=False)  # mine.py:factory: is no picture of a factory


class Progress:
    """One bar a stage, with the loss and the time left."""

    def __init__(self) -> None:
        err = Console(stderr=True, emoji=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
        )
        self.bar = Bar(*columns, console=err, transient=not err.is_terminal, disable=not err.is_terminal)
        self.plain = None if err.is_terminal else err
        self.current: Any = None

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def log(self, event: str, facts: dict[str, Any]) -> None:
        if event == "stage":
            self.current = self.bar.add_task(escape(facts["name"]), total=facts["steps"], loss="")
            if self.plain:
                self.plain.print(f"{escape(facts['name'])}: {facts['objective']}, {facts['steps']:,} steps, about {facts['seconds']:.0f} s")
        elif event == "step" and self.current is not None:
            shown = facts.get("loss", facts.get("validation.loss"))
            self.bar.update(self.current, completed=facts["step"], loss="" if shown is None else f"loss {shown:.4g}")
        elif event == "note":
            (self.plain or self.bar.console).print(f"[dim]{escape(facts['text'])}[/dim]")


def show_plan(plan: Any, task: Any) -> None:
    """task: the path that the command was given, which the next one wants too."""
    rows = {s: t.num_rows for s, t in plan.tables.items()}
    out.print("[bold]data[/bold]   " + ", ".join(f"{s} {n:,}" for s, n in rows.items()))
    _table(("column", "kind", "role", "what"), [(c["name"], c["kind"], c["role"], c["describe"]) for c in plan.columns[:40]])
    if len(plan.columns) > 40:
        out.print(f"  ... and {len(plan.columns) - 40} more columns (--json lists them)")
    for note in plan.notes:
        out.print(f"[dim]noted[/dim]  {escape(note)}")
    for warning in plan.warnings:
        out.print(f"[yellow]warning[/yellow]  {escape(warning)}")
    if "instead" in plan.parts:
        out.print(f"\n[bold]model[/bold]  the baseline {plan.parts['instead']}; nothing else is trained")
    else:
        parts = [f"{escape(n)}: {_spec(s)}" for part in ("encoders", "heads") for n, s in plan.parts[part].items()]
        out.print("\n[bold]model[/bold]  " + ", ".join(parts))
        out.print(f"       fusion {_spec(plan.parts['fusion'])}; {plan.parameters:,} parameters")
    for i, s in enumerate(plan.stages, 1):
        g = s.settings
        out.print(
            f"\n[bold]stage {i}: {escape(s.name)}[/bold]  {_spec(s.objective)}"
            + (", then " + " > ".join(_spec(x) for x in s.strategies) if s.strategies else "")
        )
        out.print(
            f"       {s.steps:,} steps of {g.batch_size} rows; {g.optimizer}, lr {g.lr:g}, weight decay {g.weight_decay:g}, {g.schedule}; "
            f"clip {g.clip}; {g.device}, {g.precision}, {g.threads} threads"
        )
        out.print(f"       {s.trainable:,} trainable parameters; {'at most ' * (g.patience is not None)}about {s.seconds:.0f} s")
        for line in _measured(s.facts):
            out.print(f"       [dim]measured[/dim]  {escape(line)}")
    seconds = sum(s.seconds for s in plan.stages) * plan.task.seeds
    out.print(f"\n[bold]cost[/bold]   about {seconds:.0f} s of training, {plan.memory_mb:.0f} MB of memory, {plan.disk_mb:.0f} MB in the run's folder")
    limits = [f"{limit.name} {limit.text}" for limit in plan.policy.limits]
    out.print(f"\n[bold]audit[/bold]  due: {', '.join(due({limit.area for limit in plan.policy.limits}))}")
    out.print("       " + (escape(", ".join(limits)) if limits else "no limits declared: figures are reported, nothing is decided"))
    out.print(f"       then: modelwright run {escape(shlex.quote(str(task)))}")


def _measured(facts: dict[str, Any]) -> list[str]:
    """The facts of a stage in words."""
    found = [f"{', '.join(f'{ms} ms a step ({how})' for how, ms in facts['step_ms'].items())}"] if "step_ms" in facts else []
    for player, f in facts.get("probe", {}).get("players", {}).items():
        who = "" if player == "model" else f"{player}: "
        rows = "a row's loss did not move with the other rows (not refuted)" if f["separable"] else f"rows are coupled at {f['where']}: {f['why']}"
        buffers = f"; the loss writes {', '.join(f['buffers'][:3])}" if f["buffers"] else ""
        still = f"; no gradient for {', '.join(f['still'][:3])}" + (f" and {len(f['still']) - 3} more" if len(f["still"]) > 3 else "") if f["still"] else ""
        found.append(f"{who}{rows}{buffers}{still}")
    return found


def _spec(spec: Any) -> str:
    name, settings = find.split(spec)
    return name if not settings else f"{name} {escape(json.dumps(settings, default=str))}"


def show_run(run: Any) -> None:
    h = run.headline
    _decision(run.evidence)
    if h is not None:
        out.print(f"{h['metric']} {_figure(h)} on {h['n']:,} {'episodes' if h['metric'] == 'episode_return' else 'test rows'}")
        for name, metrics in run.baselines.items():
            if h["metric"] in metrics:
                out.print(f"  baseline {name:<9} {_figure(metrics[h['metric']])}")
    if run.ahead:
        perhaps = ", perhaps by chance" * by_chance(run.evidence["evidence"])
        out.print(f"[yellow]the baseline {run.ahead!r} is ahead of the model{perhaps}[/yellow]: choose it (model: {{instead: {run.ahead}}}),")
        out.print("  or give the model more data or time")
    out.print(f"report: {escape(str(run.folder / 'report.html'))}   ({run.seconds:.0f} s)")
    out.print(f"next:   modelwright predict {escape(shlex.quote(str(run.folder)))} --data NEW.csv --out predictions.csv")


def show_audit(done: Any) -> None:
    """The decision, then every figure of the whole test split; what was not measured by name."""
    _decision(done.evidence)
    for line in done.evidence["evidence"]:
        if line["slice"] is None:
            name = f"{line['target']}:{line['metric']}" if line["target"] else line["metric"]
            why = f"  {', '.join(line['reason_codes'])}" if line["reason_codes"] else ""
            out.print(f"  {escape(name):<44} {_figure(line)}{escape(why)}")
    for text in [*unmeasured(done.story), *(f"warning: {w}" for w in done.story.plan.get("warnings", ()))]:
        out.print(f"[yellow]{escape(text)}[/yellow]")
    out.print(f"report: {escape(str(done.folder / 'report.html'))}")


def show_answers(answers: Any, truth: list[Any], target: str) -> None:
    """What a saved model says of some rows, beside the truth."""
    out.print("\n[bold]read back from the saved model[/bold]")
    rows = [(a[target], f"{a[f'{target}.score']:.2f}", t) for a, t in zip(answers.to_pylist(), truth, strict=True)]
    _table(("says", "how surely", "truth"), rows)


def _decision(evidence: dict[str, Any]) -> None:
    """The verdict; why not, limit by limit, and what was shown to hold."""
    d = evidence["decision"]
    if d is None:
        out.print("\n[bold]no decision[/bold]: no limit was declared (audit.require)")
        return
    colour = {"pass": "green", "fail": "red", "inconclusive": "yellow"}[d["verdict"]]
    out.print(f"\n[bold {colour}]{d['verdict']}[/bold {colour}]")
    for text in dict.fromkeys(reason["text"] for reason in d["reasons"]):  # several codes may stand behind one
        out.print(f"  {escape(text)}")
    for line in evidence["evidence"]:
        if line["verdict"] == "pass":
            name = line["metric"] + (f"@{line['slice']}" if line["slice"] else "")
            out.print(f"  {escape(name)} {escape(line['limit'])} holds: {_figure(line)}")


def _figure(x: dict[str, Any]) -> str:
    if x["value"] is None:
        return "not measured"
    low, high = x["low"], x["high"]
    if low is None and high is None:
        return f"{x['value']:.4f} (no interval)"
    return f"{x['value']:.4f} (" + (f"at most {high:.4f}" if low is None else f"at least {low:.4f}" if high is None else f"{low:.4f} to {high:.4f}") + ")"


def show_comparison(found: dict[str, Any]) -> None:
    rows = []
    for line in found["differences"]:
        word = {"higher": "A is better", "lower": "B is better"}.get(line["surely"], "no sure difference")
        between = "no interval" if line["low"] is None or line["high"] is None else f"{line['low']:+.4f} to {line['high']:+.4f}"
        a, b, value = ("none" if line[k] is None else f"{line[k]:{sign}.4f}" for k, sign in (("a", ""), ("b", ""), ("value", "+")))
        rows.append((line["target"], line["metric"], a, b, value, between, word))
    out.print(f"paired on {found['rows']:,} {found['unit']}, level {found['level']}")
    _table(("target", "metric", "A", "B", "A - B", "interval", ""), rows)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns as wide as what stands in them: rich would cut names to fit a terminal, or a pipe's 80 columns."""
    lines = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(heads))]
    for number, line in enumerate(lines):
        text = "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        out.print(Text(text, style="dim" if number == 0 else ""))
