"""Policies: limits that several tasks share, as files. `policy: medical` names a ready one, `policy: ./hospital.yaml` a file beside the task.

A policy is a floor. A task's own `require` may add limits to it or tighten them; a looser one is refused, not overruled in silence. The same order
("at least as tight") says whether limits were loosened after a test split was opened.

    name: hospital                      # all but require may be left out
    about: what it is for
    require: {accuracy: ">= 0.90"}      # as in a task
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import strict
from ..errors import Problem, Refusal, did_you_mean, refuse
from . import gate
from .gate import Limit, Policy

READY = Path(__file__).parents[1] / "policies"
KEYS = ("name", "about", "require")


def read(name: str, root: str | Path = ".", where: str = "audit.policy") -> Policy:
    """A ready policy by its name, or a file: what holds a slash or ends in .yaml. Raises `Refusal` with all that is wrong in it."""
    is_file = "/" in name or "\\" in name or name.endswith((".yaml", ".yml"))
    path = Path(root) / name if is_file else READY / f"{name}.yaml"
    if not path.is_file():
        fix = "name a file beside the task" if is_file else f"{did_you_mean(name, [p.stem for p in ready()])} (a file is written ./{name}.yaml)"
        raise refuse("policy.missing", f"there is no policy {name!r}", where=where, fix=fix)
    tree = strict.read(path, "policy")
    if not isinstance(tree, dict) or not isinstance(tree.get("require"), dict) or not tree["require"]:
        why = "a policy without limits would let everything pass"
        fix = 'require: {accuracy: ">= 0.90"}'
        raise refuse("policy.form", "a policy is a mapping with limits under require", why=why, where=path.name, fix=fix)
    odd, mistyped = [k for k in tree if k not in KEYS], [k for k in ("name", "about") if not isinstance(tree.get(k), str | None)]
    problems = [Problem("policy.unknown_key", f"no key {k!r} in a policy", where=path.name, fix=did_you_mean(k, KEYS)) for k in odd]
    problems += [Problem("policy.form", f"{k} is {tree[k]!r}", where=path.name, fix="write text") for k in mistyped]
    try:
        found = gate.parse(tree["require"], where=f"{path.name}: require")
    except Refusal as e:
        problems += e.problems
    if problems:
        raise Refusal(problems)
    return found


def ready() -> list[Path]:
    """The policies that come with the package."""
    return sorted(READY.glob("*.yaml"))


def about(path: Path) -> str:
    return str(strict.read(path, "policy").get("about", ""))


def merged(name: str | None, require: Mapping[str, str], root: str | Path = ".", where: str = "audit") -> Policy:
    """A task's limits: those of its policy, with what `require` adds or tightens. A Refusal lists every limit that would loosen the policy."""
    own = gate.parse(require, where=f"{where}.require")
    if name is None:
        return own
    floor = read(name, root, f"{where}.policy")
    limits = {limit.name: limit for limit in floor.limits}
    loose = [limit for limit in own.limits if limit.name in limits and not as_tight(limit, limits[limit.name])]
    if loose:
        why, fix = f"the policy {name} is a floor: a task may add to it or tighten it", "take the limit out, or change the policy where it is kept"
        texts = [(x.name, f"{x.name} {x.text} is looser than the policy's {limits[x.name].text}") for x in loose]
        raise Refusal(Problem("policy.loosened", what, why, f"{where}.require.{key}", fix) for key, what in texts)
    return gate.policy_of([*(limits | {limit.name: limit for limit in own.limits}).values()])


def of_task(task: Any) -> Policy:
    """The limits of a Task."""
    return merged(task.audit.policy, task.audit.require, task.root, f"{task.file}: audit")


def tightest(*policies: Policy) -> Policy:
    """Every limit of all of them; of two that speak of the same thing in the same direction, the tighter."""
    limits = [limit for policy in policies for limit in policy.limits]
    return gate.policy_of([a for i, a in enumerate(limits) if not any(_beats(b, a, first=j < i) for j, b in enumerate(limits) if j != i)])


def _beats(b: Limit, a: Limit, first: bool) -> bool:
    return a.name == b.name and as_tight(b, a) and (first or not as_tight(a, b))


def as_tight(now: Limit, before: Limit) -> bool:
    """Whatever satisfies `now` satisfies `before`."""
    rising = before.op in (">=", ">")
    if rising != (now.op in (">=", ">")):
        return False
    if now.bound == before.bound:
        return now.op == before.op or now.op in (">", "<")
    return (now.bound > before.bound) == rising


def loosened(before: Iterable[Limit], now: Policy) -> list[str]:
    """In words, each earlier limit that no limit of now is at least as tight as."""
    said = []
    for old in before:
        here = [n for n in now.limits if (n.metric, n.slice) == (old.metric, old.slice) and n.target in (None, old.target)]
        if not any(as_tight(n, old) for n in here):
            became = f"became {', '.join(n.text for n in here)}" if here else "was taken out"
            said.append(f"{old.name} {old.text} {became}")
    return said


def as_json(policy: Policy) -> list[dict[str, Any]]:
    """For the registry: `from_json` gives the limits back, whatever metrics a later version knows."""
    return [asdict(limit) for limit in policy.limits]


def from_json(limits: Iterable[Mapping[str, Any]]) -> list[Limit]:
    return [Limit(**limit) for limit in limits]


def unchanged(digest: str, limits: Iterable[Mapping[str, Any]]) -> list[Limit]:
    """Limits that the registry kept by their digest; refused where that is not theirs any more."""
    found = from_json(limits)
    if gate.policy_of(found).digest != digest:
        what, fix = f"the limits {digest[:19]} were changed in the registry after a test split was opened under them", "restore it from a backup"
        raise refuse("registry.tampered", what, where="the registry's table of limits", fix=fix)
    return found


def as_require(policy: Policy) -> dict[str, str]:
    """As a task file writes it."""
    return {limit.name: limit.text for limit in policy.limits}
