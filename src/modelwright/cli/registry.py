"""Looking into the registry: `registry list|show|report|history|verify|gc`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import refuse
from .options import AsJson, Model, UrlEnv, Who, opened, say

if TYPE_CHECKING:
    from ..registry.store import Registry

group = typer.Typer(help="What the registry holds.", no_args_is_help=True)


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
    from ..home import now
    from ..registry.export import card, overrides

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
    from ..home import now, write
    from ..registry.export import report as page

    registry = opened(url_env)
    version = registry.resolve(model)
    text = page(registry, version, now()[:10])
    if text is None:
        raise refuse("registry.no_report", f"{version.reference} was registered without report.html", where=model, fix="register the run's folder again")
    if out.exists():
        raise refuse("export.exists", f"{out} exists", why="nothing is overwritten", where="OUT", fix="name a file that does not exist")
    write(out, text)
    say(as_json, {"model": version.reference, "out": str(out)}, f"the report of {version.reference} is {out}")


@group.command()
def history(name: Annotated[str | None, typer.Argument()] = None, url_env: UrlEnv = None, as_json: AsJson = False) -> None:
    """The audit trail: who did what, when and why; of a name, with the audits of its versions' bytes."""
    from dataclasses import asdict

    from ..registry.trail import plain

    registry = opened(url_env)
    models = {v.model: v.reference for v in reversed(registry.versions(name))}
    events = [e for e in registry.history() if name in (None, e.name) or e.what == "audit" and e.details["model"] in models]
    if name is not None and not events:
        registry.find(name)  # refuses, with the nearest name
    lines = [
        f"{e.at}  {_who(e)}  {e.what}  {_what(e, models)} {e.alias or ''}" + f" until {e.until}" * bool(e.until) + f"  ({plain(e.why)})" * bool(e.why)
        for e in events
    ]
    say(as_json, {"events": [asdict(e) for e in events]}, "\n".join(lines) or "nothing has happened")


def _who(e: Any) -> str:
    from ..registry.trail import plain

    return plain(e.who) + (f" (account {e.details['account']})" if "account" in e.details else "")


def _what(e: Any, models: dict[str, str]) -> str:
    if e.what == "open":
        return f"test rows {e.digest[:19]} in {e.details['source']!r}"
    if e.what != "audit":
        return f"{e.name}@{e.version}"
    model = e.details["model"]
    return f"{models.get(model, model[:19])} in {e.details['source'] or '?'}: {e.details['verdict'] or 'no limits'}"


@group.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One name; default: all.")] = None, url_env: UrlEnv = None, as_json: AsJson = False
) -> None:
    """Check every file of every version against its signed manifest, and the database against the audit trail. Exit status 3 if anything differs."""
    from dataclasses import asdict

    from ..registry import signing, whole

    registry = opened(url_env)
    versions = [registry.find(name)] if name and "@" in name else registry.versions(name)
    if name and not versions:
        registry.find(name)  # refuses, with the nearest name
    collected = {e.digest for e in registry.history() if e.what == "collect"}
    here = [v for v in versions if v.folder.exists() or v.digest not in collected]
    known = signing.trusted(registry.keys)
    found = [{"version": v.reference, **asdict(f)} for v in here for f in signing.verify(v.folder, v.digest, known)]
    found += [{"version": "", **asdict(f)} for f in (*registry.amiss(), *registry.transaction(whole.late))]
    well = "1 version is as it was signed" if len(here) == 1 else f"{len(here)} versions are as they were signed"
    text = "\n".join(f"{f['version']}  {f['kind']}  {f['path']}: {f['text']}" for f in found) or well
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

    from ..registry.collect import collect

    found = collect(opened(url_env), keep=keep, days=days, dry_run=dry_run, who=who)
    word = "would go" if dry_run else "gone"
    lines = [f"{word}: {' '.join(c.versions) or 'a leftover'}  {c.digest[:19]}  {c.size / 1e6:.1f} MB" for c in found]
    say(as_json, {"dry_run": dry_run, "collected": [asdict(c) for c in found]}, "\n".join(lines) or "nothing to collect")


def _shown(registry: Registry, version: Any) -> dict[str, Any]:
    from ..errors import Refusal
    from ..registry.aliases import MOVES

    here = []
    for alias in sorted({e.alias for e in registry.history(version.name) if e.what in MOVES and e.alias}):
        try:
            if registry.find(f"{version.name}@{alias}").version == version.version:
                here.append(alias)
        except Refusal:  # lapsed, and nothing before it
            continue
    kept = version.folder.is_dir()
    return {"name": version.name, "version": version.version, "digest": version.digest, "model": version.model, "aliases": here, "kept": kept}
