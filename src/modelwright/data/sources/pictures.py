"""A folder of pictures: one folder a class, perhaps below folders named train, validation and test.

    folder/cat/1.png                       image, label
    folder/train/cat/1.png                 image, label, split
    folder/1.png                           image (for learning without labels)

`image` is the path below the folder, as text with forward slashes: decoding is the picture kind's work, through `paths.resolve`. Deeper folders
belong to their class. Files that are no pictures are counted, not read; linked folders are not entered.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

from ...errors import refuse
from .loaded import SPLITS, Context, Loaded, few

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def read_pictures(folder: Path, files: list[Path], links: int, context: Context, origin: str) -> Loaded:
    """files: all files below the folder, in order."""
    found = [p.relative_to(folder).parts for p in files if p.suffix.lower() in SUFFIXES]
    splits = {p[0] for p in found if len(p) > 1 and p[0].lower() in SPLITS} if all(len(p) > 1 and p[0].lower() in SPLITS for p in found) else set()
    classes = [p[1:-1] if splits else p[:-1] for p in found]
    bare = [p for p, c in zip(found, classes, strict=True) if not c]
    if bare and len(bare) < len(found):
        what = f"{len(bare):,} pictures lie outside the class folders: {few(['/'.join(p) for p in bare], 3)}"
        raise refuse(
            "data.layout",
            what,
            where=context.where,
            why="their class cannot be told",
            fix="move each picture into its class's folder (folder/class/picture.png)",
        )
    base = folder.resolve()
    linked = [p for p in found if folder.joinpath(*p).is_symlink()]  # linked folders are not entered
    outside = [p for p in linked if not Path(os.path.realpath(folder.joinpath(*p))).is_relative_to(base)]  # resolve() would end at a link in a circle
    if outside:
        what = f"{len(outside):,} pictures are links out of the folder: {few(['/'.join(p) for p in outside], 3)}"
        raise refuse("data.outside", what, where=context.where, why="pictures stay below their folder", fix="copy the pictures into it")
    try:
        columns = {"image": pa.array(["/".join(p) for p in found], pa.string())}
        if not bare:
            columns["label"] = pa.array([c[0] for c in classes], pa.string())
    except UnicodeEncodeError as e:
        raise refuse("data.file_name", "a file's name is not Unicode text", where=context.where, why=str(e)[:200], fix="rename it") from e
    labels = sorted({c[0] for c in classes if c})
    notes = [f"{len(found):,} pictures, {f'{len(labels):,} classes by folder: {few(labels)}' if labels else 'no class folders, so no labels'}"]
    if splits:
        columns["split"] = pa.array([SPLITS[p[0].lower()] for p in found], pa.string())
        notes.append(f"splits by folder: {few(sorted(splits))}")
    if len(found) < len(files):
        rest = ["/".join(p.relative_to(folder).parts) for p in files if p.suffix.lower() not in SUFFIXES]
        notes.append(f"{len(rest):,} files that are no pictures were left out: {few(rest, 3)}")
    if links:
        notes.append(f"{links:,} linked folders were not entered")
    return Loaded(pa.table(columns), notes, origin, "split" if splits else None, folder)
