"""What happens to versions: register, promote, rollback, export, `registry import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import refuse
from .options import AsJson, Model, UrlEnv, Who, opened, say
from .registry import group

if TYPE_CHECKING:
    from ..registry.store import Registry


def register(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    name: Annotated[str, typer.Option(help="The model's name in the registry.")],
    key: Annotated[Path | None, typer.Option(help="An Ed25519 private key (PEM) to sign with; default: the home's own.")] = None,
    who: Who = None,
    url_env: UrlEnv = None,
    as_json: AsJson = False,
) -> None:
    """Copy a run's model and evidence into the registry, signed, as the next version of a name."""
    made = opened(url_env).register(run, name, key=key, who=who)
    facts = {"name": made.name, "version": made.version, "digest": made.digest, "model": made.model}
    say(as_json, facts, f"{made.reference} is {made.digest}\nnext: modelwright promote {made.reference} --alias production")


def promote(
    model: Model,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "production",
    policy: Annotated[str | None, typer.Option(help="More limits, which count beside the task's: a ready policy or a file.")] = None,
    override: Annotated[bool, typer.Option("--override", help="Promote against the evidence; needs --who, --why and --until.")] = False,
    who: Who = None,
    why: Annotated[str, typer.Option(help="The reason, for the record.")] = "",
    until: Annotated[str | None, typer.Option(help="The override's last day: 2027-01-31.")] = None,
    url_env: UrlEnv = None,
    as_json: AsJson = False,
) -> None:
    """Move an alias to a version, if the evidence for exactly its bytes passes. Exit status 3 if it does not."""
    if until is not None and not override:
        raise refuse("usage", "--until is an override's last day", where="--until", fix="add --override, or leave it out")
    from ..registry.trail import plain

    wanted = {"who": who or "", "why": why, "until": until or ""} if override else None
    done = opened(url_env).promote(model, alias, policy=policy, override=wanted, who=who, why=why)
    name, lines = done.version.reference, [f"  {r['code']}: {r['text']}" for r in done.reasons]
    lines += [f"  note: {w['text']}" for w in done.warnings]
    lines += [f"  on {e['source'] or e['digest'][:19]} {e['at'][:10]}, {e['rows']} test rows: {', '.join(e['limits'])}" for e in done.evidence]
    if done.override:
        head = f"{name} is {alias} by override of {done.override['who']} until {done.override['until']}, against:"
    elif done.moved:
        head = f"{name} passes and is {alias} now"
    else:
        head = f"{name} is not promoted ({done.verdict}):"
        lines += [f"  {alias} stays where it is"]
    say(as_json, done.as_json(), "\n".join([plain(head), *("  " + plain(line) for line in lines)]))
    if not done.moved:
        raise typer.Exit(3)


def rollback(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    alias: Annotated[str, typer.Option(help="The alias to move back.")] = "production",
    who: Who = None,
    why: Annotated[str, typer.Option(help="The reason, for the record.")] = "",
    url_env: UrlEnv = None,
    as_json: AsJson = False,
) -> None:
    """Move an alias back to what it pointed to before."""
    to = opened(url_env).rollback(name, alias, who=who, why=why)
    say(as_json, {"name": name, "alias": alias, "version": to.version, "digest": to.digest}, f"{name}@{alias} is version {to.version} again")


def export(
    model: Model,
    out: Annotated[Path | None, typer.Argument(help="For hf: a folder that does not exist yet.")] = None,
    to: Annotated[str, typer.Option(help="hf: a Hugging Face folder with its model card; mlflow:URI or mlflow:FOLDER: MLflow's model registry.")] = "hf",
    url_env: UrlEnv = None,
    as_json: AsJson = False,
) -> None:
    """Write a version to a folder for others, or into MLflow's registry."""
    from ..home import now

    registry = opened(url_env)
    if to.startswith("mlflow:"):
        from ..registry.exchange import to_mlflow

        if out is not None:
            raise refuse("usage", f"{out}: MLflow's place stands in --to", where="OUT", fix="leave it out")
        at = model.partition("@")[2]
        alias = at if at and not at.isdigit() and not at.startswith("sha256:") else None
        facts = to_mlflow(registry, registry.resolve(model), to.removeprefix("mlflow:"), now()[:10], alias)
        text = f"{model} is version {facts['version']} of {facts['name']} in MLflow" + f", and its alias {alias}" * bool(alias)
        return say(as_json, facts, text)
    if to != "hf":
        raise refuse("usage", f"no export to {to!r}", where="--to", fix="choose one of: hf, mlflow:URI, mlflow:FOLDER")
    if out is None:
        raise refuse("usage", "no folder to export to", where="OUT", fix=f"modelwright export {model} FOLDER")
    from ..registry.export import huggingface
    from ..report.index import render

    version = registry.resolve(model)
    files = huggingface(registry, version, out, now()[:10], render)
    say(as_json, {"model": version.reference, "out": str(out), "files": files}, f"{version.reference} in {out}: {', '.join(files)}")


@group.command("import")
def import_(
    model: Annotated[str, typer.Argument(help="NAME, NAME@3 or NAME@ALIAS there; without --from an ONNX file, a Hugging Face or exported folder.")],
    source: Annotated[str | None, typer.Option("--from", help="mlflow:URI or mlflow:FOLDER.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name here; needed for a file or a folder.")] = None,
    task: Annotated[Path | None, typer.Option(help="Of a model from elsewhere: a task file with its columns, labels and limits.")] = None,
    url_env: UrlEnv = None,
    as_json: AsJson = False,
) -> None:
    """A version from elsewhere. One that left a registry of ours keeps its digest; any other is audited before it can be promoted."""
    registry = opened(url_env)
    text = None if task is None else _task_text(task, registry)
    if source is None:
        made, note = _brought(registry, Path(model), name, text), "nothing speaks for it yet"
    elif source.startswith("mlflow:"):
        from ..registry.exchange import from_mlflow

        made, note = from_mlflow(registry, source.removeprefix("mlflow:"), model, name, text)
    else:
        raise refuse("usage", f"nothing is imported from {source!r}", where="--from", fix="mlflow:URI or mlflow:FOLDER")
    facts = {"name": made.name, "version": made.version, "digest": made.digest, "model": made.model, "note": note}
    say(as_json, facts, f"{made.reference} is {made.digest} ({note})\nnext: modelwright audit {made.reference} --data test=FILE")


def _brought(registry: Registry, place: Path, name: str | None, task: str | None) -> Any:
    """An ONNX file, a Hugging Face folder or a folder that `export` wrote, on this machine."""
    import tempfile

    from ..foreign.predictor import within
    from ..registry.exchange import bring

    if name is None:
        raise refuse("usage", "a file or a folder has no name of its own", where="--name", fix="--name NAME")
    if ".py:" in str(place):
        why = "a version is bound to its bytes, and code may load others each time; such a model can be audited and asked, not promoted"
        fix = "keep it as an ONNX file (torch.onnx.export, skl2onnx) and import that"
        raise refuse("model.missing", f"{place} is code", why=why, where=str(place), fix=fix)
    found, lineage = place if place.is_file() and place.suffix == ".onnx" else within(place), None
    if (place / "model.json").is_file():
        from ..home import kept
        from ..registry.export import BESIDE

        found, lineage = place, kept(place / "lineage.json") if (place / "lineage.json").is_file() else None
    if found is None:
        what = f"{place} is neither an ONNX file nor a Hugging Face folder" if place.exists() else f"{place} does not exist"
        raise refuse("model.missing", what, where=str(place), fix="a run's folder is registered: modelwright register FOLDER --name NAME")
    if (found / "model.json").is_file():  # a version that was exported
        paths = (p.relative_to(found) for p in found.rglob("*") if p.is_file())
        parts = {p.as_posix(): found / p for p in paths if p.as_posix() not in BESIDE and not p.name.startswith(".")}
    elif found.is_dir():
        from ..foreign.huggingface import files

        parts = {n: found / n for n in files(found)}
    else:
        parts = {"model.onnx": found}
    with tempfile.TemporaryDirectory(prefix="modelwright-") as scratch:
        return bring(registry, parts, name, f"file: {found.name}", task, Path(scratch) / "made", lineage)


def _task_text(path: Path, registry: Registry) -> str:
    """A task file as a version keeps it: defaults filled in, limits written out, paths as seen from the store."""
    from .. import strict
    from ..running import resolved
    from ..task import load_task

    return strict.dump(resolved(load_task(path), registry.objects / "VERSION"))
