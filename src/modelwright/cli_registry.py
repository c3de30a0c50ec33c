"""The registry's commands: register, promote, rollback, export, and `registry list|show|history|verify|gc`. `cli.py` adds them to its own."""

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
    out: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    to: Annotated[str, typer.Option(help="hf: a Hugging Face folder with its model card.")] = "hf",
    url_env: UrlEnv = None,
    as_json: AsJson = False,
) -> None:
    """Write a version to a folder for others."""
    from .home import now
    from .registry.export import huggingface
    from .report.index import render

    if to != "hf":
        raise refuse("usage", f"no export to {to!r}", where="--to", fix="choose one of: hf")
    registry = opened(url_env)
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
    """A version: digests, lineage, aliases, overrides; and its card."""
    from .home import now
    from .registry.export import card
    from .registry.promotion import overrides

    registry = opened(url_env)
    version = registry.resolve(model)
    facts = _shown(registry, version) | {"lineage": version.lineage, "overrides": overrides(registry, version), "note": version.note}
    head = [f"{version.reference}  {version.digest}", f"model {version.model}", f"folder {version.folder}", f"aliases: {' '.join(facts['aliases'])}"]
    say(as_json, facts, "\n".join([*head, *filter(None, [version.note]), "", card(registry, version, now()[:10])]))


@group.command()
def history(name: Annotated[str | None, typer.Argument()] = None, url_env: UrlEnv = None, as_json: AsJson = False) -> None:
    """The audit trail: who did what, when and why."""
    from dataclasses import asdict

    events = opened(url_env).history(name)
    lines = [
        f"{e.at}  {e.who}  {e.what}  {e.name}@{e.version}" + f" {e.alias or ''}" + f" until {e.until}" * bool(e.until) + f"  ({e.why})" * bool(e.why)
        for e in events
    ]
    say(as_json, {"events": [asdict(e) for e in events]}, "\n".join(lines) or "nothing has happened")


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
