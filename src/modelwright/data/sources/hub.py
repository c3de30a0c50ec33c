"""Hugging Face data sets: `hub://NAME`, `hub://NAME/TABLE`, `hub://OWNER/NAME/CONFIG`, and a folder made by `save_to_disk`.

`MODELWRIGHT_DATA/NAME/data.parquet` (or `TABLE.parquet`) stands in for the hub where it exists. A saved folder is read with pyarrow alone. Splits
become the column `split`, class numbers their names. Left out: streaming, data sets that need code of their own (never run here).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from ... import home
from ...errors import did_you_mean, refuse
from .columnar import read_arrow
from .files import add_split, join, read_file
from .loaded import SPLITS, Context, Loaded, few
from .paths import regular, resolve
from .tidy import tidy


def read_hub(source: str, context: Context) -> Loaded:
    """source: hub://..., from the folder that stands in for the hub, else from the hub itself."""
    parts = source.removeprefix("hub://").split("/")
    if len(parts) > 3 or not all(re.fullmatch(r"\w[\w.-]*", p, re.ASCII) for p in parts):
        raise refuse(
            "data.source",
            f"{source!r} is no name on the hub",
            where=context.where,
            fix="write hub://NAME, hub://NAME/TABLE or hub://OWNER/NAME/CONFIG",
        )
    local, near = home.data(), ""
    if local is not None and len(parts) < 3:
        path = local / parts[0] / f"{parts[1] if len(parts) > 1 else 'data'}.parquet"
        if path.exists():
            return read_file(path, context, source)
        near = _near(local, parts)
    return _download("/".join(parts[:2]), parts[2] if len(parts) > 2 else None, source, near, context)


def _near(local: Path, parts: list[str]) -> str:
    """What the local folder has that the name may have meant."""
    if len(parts) > 1 and (local / parts[0]).is_dir():
        return "did you mean the table " + ", ".join(sorted(p.stem for p in (local / parts[0]).glob("*.parquet"))[:8]) + "?"
    hint = did_you_mean(parts[0], [p.name for p in local.iterdir() if p.is_dir()] if local.is_dir() else [])
    return hint if hint.startswith("did you mean") else ""


def _download(name: str, config: str | None, source: str, near: str, context: Context) -> Loaded:
    try:
        import datasets
        import huggingface_hub
    except ModuleNotFoundError as e:
        why = "it is not below MODELWRIGHT_DATA, and the hub is reached through that package"
        raise refuse(
            "extra.missing", f"{source} needs the package 'datasets'", where=context.where, why=why, fix=near or "pip install datasets"
        ) from e
    fix = (
        near
        or "check the name and the network, set HF_HUB_OFFLINE=1 to use what was downloaded before, or put NAME/data.parquet below MODELWRIGHT_DATA"
    )
    try:
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            huggingface_hub.HfApi().dataset_info(name, timeout=20)  # one quick question: `datasets` asks for half a minute before it gives up
        found = datasets.load_dataset(name, config)
    except Exception as e:  # dozens of kinds, from three packages
        raise refuse(
            "data.hub", f"{source} could not be had from the hub", where=context.where, why=f"{type(e).__name__}: {str(e).strip()[:300]}", fix=fix
        ) from e
    return read_made(found, source, context)


def read_made(found: Any, origin: str, context: Context) -> Loaded:
    """A `datasets.Dataset`, or a `DatasetDict` of splits."""
    named = {str(k): v for k, v in found.items()} if isinstance(found, dict) else {"": found}
    tables = {k: (d.flatten_indices() if d._indices is not None else d).data.table for k, d in named.items()}
    return _with_splits(tables, origin, context, context.root)


def is_saved(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or ((folder / "state.json").is_file() and (folder / "dataset_info.json").is_file())


def read_saved(folder: Path, context: Context, origin: str) -> Loaded:
    """A folder made by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    if not (folder / "dataset_dict.json").is_file():
        return _with_splits({"": _saved(folder, context)}, origin, context, folder)
    names = _json(folder / "dataset_dict.json", context).get("splits")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise refuse("data.corrupt", "dataset_dict.json names no splits", where=origin, fix="save the data set again")
    return _with_splits({n: _saved(resolve(n, folder), context) for n in names}, origin, context, folder)


def _saved(folder: Path, context: Context) -> pa.Table:
    files = _json(folder / "state.json", context).get("_data_files")
    if not isinstance(files, list) or not files or not all(isinstance(f, dict) and isinstance(f.get("filename"), str) for f in files):
        raise refuse("data.corrupt", f"{folder.name}/state.json names no files", where=context.where, fix="save the data set again")
    tables = []
    for file in files:
        path = resolve(file["filename"], folder)
        regular(path, context.where)
        tables.append(read_arrow(path, context)[0])
    return pa.concat_tables(tables)


def _json(path: Path, context: Context) -> dict:
    regular(path, context.where)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as e:
        raise refuse("data.corrupt", f"{path.name} is broken JSON", where=str(path.name), why=str(e)[:200], fix="save the data set again") from e
    return content if isinstance(content, dict) else {}


def _with_splits(tables: dict[str, pa.Table], origin: str, context: Context, root: Path) -> Loaded:
    parts = [Loaded(*tidy(t)) for t in tables.values()]
    loaded = join(parts, list(tables), context)
    loaded.origin, loaded.root = origin, root
    loaded.notes.insert(0, "Hugging Face data set" + (f", splits {few(list(tables))}" if len(tables) > 1 else ""))
    if len(tables) > 1:
        add_split(loaded, [(SPLITS.get(n, n), p.table.num_rows) for n, p in zip(tables, parts, strict=True)])
    return loaded
