"""The registry's commands: register, promote, rollback, export, and `registry list|show|report|history|import|verify|gc`. `cli.py` adds them to its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import refuse

if TYPE_CHECKING:
    from .registry.store import Registry

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
UrlEnv = Annotated[str | None, typer.Option(help="The environment variable that holds a PostgreSQL URL, in place of the home's registry.")]
Who = Annotated[str | None, typer.Option(help="In whose name; default: the account.")]
Model = Annotated[str, typer.Argument(help="NAME (its newest version), NAME@3, NAME@ALIAS or NAME@sha256:...")]
group = typer.Typer(help="What the registry holds.", no_args_is_help=True)


def opened(url_env: str | None) -> Registry:
    from .registry.store import Registry

    if url_env is None:
        return Registry()
    if not os.environ.get(url_env):
        raise refuse("registry.url", f"the environment has no {url_env}", where="--url-env", fix=f"export {url_env}=postgresql://...")
    return Registry(url=os.environ[url_env])


def say(as_json: bool, facts: dict[str, Any], text: str) -> None:
    print(json.dumps(facts, ensure_ascii=False, default=str) if as_json else text)


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
    say(as_json, done.as_json(), "\n".join([head, *lines]))
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
    from .home import now

    registry = opened(url_env)
    if to.startswith("mlflow:"):
        from .registry.exchange import to_mlflow

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
    from .registry.export import huggingface
    from .report.index import render

    version = registry.resolve(model)
    files = huggingface(registry, version, out, now()[:10], render)
    say(as_json, {"model": version.reference, "out": str(out), "files": files}, f"{version.reference} in {out}: {', '.join(files)}")


@group.command("list")
def list_(url_env: UrlEnv = None, as_json: AsJson = False) -> None:
    """Names, versions and where aliases point."""
    registry = opened(url_env)
    rows = [_shown(registry, v) for v in registry.versions()]
    text = "\n".join(f"{r['name']}@{r['version']}  {r['digest'][:19]}  {' '.join(r['aliases'])}".rstrip() for r in rows)
    say(as_json, {"versions": rows}, text or "the registry is empty")


@group.command()
def show(model: Model, url_env: UrlEnv = None, as_json: AsJson = False) -> None:
    """A version: digests, lineage, aliases, overrides, every audit of its bytes; and its card."""
    from .home import now
    from .registry.export import card, overrides

    registry = opened(url_env)
    version = registry.resolve(model)
    facts = _shown(registry, version) | {"lineage": version.lineage, "overrides": overrides(registry, version), "note": version.note}
    audits = [(a, (a.evidence["decision"] or {}).get("verdict")) for a in registry.audits(version.model)]
    facts["audits"] = [{"source": a.source, "at": a.at, "digest": a.digest, "verdict": verdict} for a, verdict in audits]
    head = [f"{version.reference}  {version.digest}", f"model {version.model}", f"folder {version.folder}", f"aliases: {' '.join(facts['aliases'])}"]
    head += [f"audited {a.at[:10]} in {a.source or '?'}: {verdict or 'no limits'}" for a, verdict in audits]
    say(as_json, facts, "\n".join([*head, *filter(None, [version.note]), "", card(registry, version, now()[:10])]))


@group.command()
def report(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The file to write: report.html.")],
    url_env: UrlEnv = None,
    as_json: AsJson = False,
) -> None:
    """The report that was registered with a version, as a page that begins with every override of its bytes."""
    from .home import now, write
    from .registry.export import report as page

    registry = opened(url_env)
    version = registry.resolve(model)
    text = page(registry, version, now()[:10])
    if text is None:
        raise refuse("registry.no_report", f"{version.reference} was registered without report.html", where=model, fix="register the run's folder again")
    if out.exists():
        raise refuse("export.exists", f"{out} exists", why="nothing is overwritten", where="OUT", fix="name a file that does not exist")
    write(out, text)
    say(as_json, {"model": version.reference, "out": str(out)}, f"the report of {version.reference} is {out}")


@group.command("import")
def import_(
    model: Annotated[str, typer.Argument(help="NAME, NAME@3 or NAME@ALIAS there; without --from an ONNX file or a Hugging Face folder.")],
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
        from .registry.exchange import from_mlflow

        made, note = from_mlflow(registry, source.removeprefix("mlflow:"), model, name, text)
    else:
        raise refuse("usage", f"nothing is imported from {source!r}", where="--from", fix="mlflow:URI or mlflow:FOLDER")
    facts = {"name": made.name, "version": made.version, "digest": made.digest, "model": made.model, "note": note}
    say(as_json, facts, f"{made.reference} is {made.digest} ({note})\nnext: modelwright audit {made.reference} --data test=FILE")


def _brought(registry: Registry, place: Path, name: str | None, task: str | None) -> Any:
    """An ONNX file or a Hugging Face folder on this machine."""
    import tempfile

    from .foreign.predictor import within
    from .registry.exchange import bring

    if name is None:
        raise refuse("usage", "a file or a folder has no name of its own", where="--name", fix="--name NAME")
    found = place if place.is_file() and place.suffix == ".onnx" else within(place)
    if found is None:
        what = f"{place} is neither an ONNX file nor a Hugging Face folder" if place.exists() else f"{place} does not exist"
        raise refuse("model.missing", what, where=str(place), fix="a run's folder is registered: modelwright register FOLDER --name NAME")
    if found.is_dir():
        from .foreign.huggingface import files

        parts = {n: found / n for n in files(found)}
    else:
        parts = {"model.onnx": found}
    with tempfile.TemporaryDirectory(prefix="modelwright-") as scratch:
        return bring(registry, parts, name, f"file: {found.name}", task, Path(scratch) / "made")


def _task_text(path: Path, registry: Registry) -> str:
    """A task file as a version keeps it: defaults filled in, limits written out, paths as seen from the store."""
    import yaml

    from .running import resolved
    from .task import load_task

    return yaml.safe_dump(resolved(load_task(path), registry.objects / "VERSION"), allow_unicode=True, sort_keys=False)


@group.command()
def history(name: Annotated[str | None, typer.Argument()] = None, url_env: UrlEnv = None, as_json: AsJson = False) -> None:
    """The audit trail: who did what, when and why; of a name, with the audits of its versions' bytes."""
    from dataclasses import asdict

    registry = opened(url_env)
    models = {v.model: v.reference for v in reversed(registry.versions(name))}
    events = [e for e in registry.history() if name in (None, e.name) or e.what == "audit" and e.details["model"] in models]
    lines = [
        f"{e.at}  {e.who}  {e.what}  {_what(e, models)}" + f" {e.alias or ''}" + f" until {e.until}" * bool(e.until) + f"  ({e.why})" * bool(e.why)
        for e in events
    ]
    say(as_json, {"events": [asdict(e) for e in events]}, "\n".join(lines) or "nothing has happened")


def _what(e: Any, models: dict[str, str]) -> str:
    if e.what != "audit":
        return f"{e.name}@{e.version}"
    model = e.details["model"]
    return f"{models.get(model, model[:19])} in {e.details['source'] or '?'}: {e.details['verdict'] or 'no limits'}"


@group.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One name; default: all.")] = None, url_env: UrlEnv = None, as_json: AsJson = False
) -> None:
    """Check every file of every version against its signed manifest, and the audit trail. Exit status 3 if anything differs."""
    from dataclasses import asdict

    from .registry import signing

    registry = opened(url_env)
    versions = [registry.find(name)] if name and "@" in name else registry.versions(name)
    if name and not versions:
        registry.find(name)  # refuses, with the nearest name
    collected = {e.digest for e in registry.history() if e.what == "collect"}
    here = [v for v in versions if v.folder.exists() or v.digest not in collected]
    known = signing.trusted(registry.keys)
    found = [{"version": v.reference, **asdict(f)} for v in here for f in signing.verify(v.folder, v.digest, known)]
    if (line := registry.broken_trail()) is not None:
        found.append(
            {"version": "", "kind": "trail", "path": "", "text": f"line {line} of the audit trail was changed, or one before it was taken out"}
        )
    text = "\n".join(f"{f['version']}  {f['kind']}  {f['path']}: {f['text']}" for f in found) or f"{len(here)} versions are as they were signed"
    say(as_json, {"verified": len(here), "findings": found}, text)
    if found:
        raise typer.Exit(3)


@group.command()
def gc(
    keep: Annotated[int, typer.Option(help="The newest versions of each name that stay.")] = 3,
    days: Annotated[int, typer.Option(help="Versions registered in the last so many days stay.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    who: Who = None,
    url_env: UrlEnv = None,
    as_json: AsJson = False,
) -> None:
    """Remove the files of versions that no alias, lineage or retention needs. Numbers, digests and the trail stay."""
    from dataclasses import asdict

    from .registry.collect import collect

    found = collect(opened(url_env), keep=keep, days=days, dry_run=dry_run, who=who)
    word = "would go" if dry_run else "gone"
    lines = [f"{word}: {' '.join(c.versions) or 'a leftover'}  {c.digest[:19]}  {c.size / 1e6:.1f} MB" for c in found]
    say(as_json, {"dry_run": dry_run, "collected": [asdict(c) for c in found]}, "\n".join(lines) or "nothing to collect")


def _shown(registry: Registry, version: Any) -> dict[str, Any]:
    from .errors import Refusal
    from .registry.aliases import MOVES

    here = []
    for alias in sorted({e.alias for e in registry.history(version.name) if e.what in MOVES and e.alias}):
        try:
            if registry.find(f"{version.name}@{alias}").version == version.version:
                here.append(alias)
        except Refusal:  # lapsed, and nothing before it
            continue
    kept = version.folder.is_dir()
    return {"name": version.name, "version": version.version, "digest": version.digest, "model": version.model, "aliases": here, "kept": kept}


def add_to(app: typer.Typer) -> None:
    for command in (register, promote, rollback, export):
        app.command()(command)
    app.add_typer(group, name="registry")
