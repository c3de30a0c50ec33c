"""YAML as plain data, strictly: no templates, aliases or tags; a key stands once; only true and false are booleans. For task files and policies.

Every refusal's code begins with `area`, so that a task's are task.yaml, task.encoding, and a policy's policy.yaml.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .errors import refuse

LARGEST = 1 << 20  # bytes


class Loader(yaml.SafeLoader):
    """Safe, and strict: duplicate keys and aliases are errors; only true and false are booleans (a label may be `no`); 1e-3 is a number, and 010, 0x1F, 1_000
    and 12:30 are words: labels, more often than the octal, hexadecimal and sexagesimal numbers of YAML 1.1."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not read: write the value out", event.start_mark)
        if (event := self.peek_event()).tag is not None:
            raise yaml.constructor.ConstructorError(None, None, f"tags (!name) are not read: {event.tag}", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "merge keys (<<) are not read: write the values out", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool)):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if str(key) in seen:  # 1 and "1" are the same column
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(str(key))
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "timestamp", "int", "float")}
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+)$"), list("-+.0123456789"))
Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9]\d*)$"), list("-+0123456789"))


class Dumper(yaml.SafeDumper):
    """Writes what Loader reads back as it was: words that it would take for numbers are quoted, and nothing is an alias."""

    yaml_implicit_resolvers = {k: [*v, *Loader.yaml_implicit_resolvers.get(k, ())] for k, v in yaml.SafeDumper.yaml_implicit_resolvers.items()}

    def ignore_aliases(self, data):
        return True


def dump(tree: Any) -> str:
    return yaml.dump(tree, Dumper=Dumper, allow_unicode=True, sort_keys=False)


def read(path: str | Path, area: str) -> Any:
    """The tree in a file. Raises `Refusal` with the line."""
    path = Path(path)
    if path.stat().st_size > LARGEST:
        raise refuse(f"{area}.too_large", f"{path} has {path.stat().st_size:,} bytes; a {area} file has at most {LARGEST:,}", where=str(path))
    try:
        text = path.read_text("utf-8-sig")
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader, and stricter
    except UnicodeDecodeError as e:
        raise refuse(f"{area}.encoding", "the file is not UTF-8 text", where=str(path), fix="save it as UTF-8") from e
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        mark = getattr(e, "problem_mark", None)
        line = f": line {mark.line + 1}" if mark else ""
        what = "too deeply nested" if isinstance(e, RecursionError) else getattr(e, "problem", None) or str(e)
        if isinstance(e, yaml.reader.ReaderError):
            line, what = f": line {text.count(chr(10), 0, e.position) + 1}", f"the character U+{e.character:04X} is not allowed"
        tab = "a tab: YAML is indented with spaces" if "\\t" in what else ""
        why = "the text is not valid YAML of the plain kind"
        raise refuse(f"{area}.yaml", tab or what, where=f"{path.name}{line}", why=why, fix="mend that line") from e
