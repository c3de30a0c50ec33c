"""Boxes with labels in a picture, as a target: lists of boxes, lists of objects such as COCO's {bbox, category}, or JSON text of either.

A row's cell is a list of [a, b, c, d] (labels then stand in `label_column`, or all boxes are one class), a list of objects that hold a box and a
label, or an object of lists {bbox: [...], category: [...]}. Boxes are x1 y1 x2 y2, or x y width height (`format`; objects with `bbox` are the latter,
as in COCO; fields such as xmin or width speak for themselves). They are stored as x1 y1 x2 y2 label in shares of the picture's width and height,
because pictures are brought to one size without keeping their proportions: pixels are divided by the size in `size_columns`, else by that in the
picture's own header (upright). An empty list is a picture without objects, which is known; a null is a picture that nobody looked at. Boxes are
clipped to the picture; one without area or wholly outside is left out and counted; when a tenth of them is like that, or a quarter reaches beyond its
picture, the format is wrong and refused. Metrics: COCO's mean average precision over the pictures (crowd regions and area ranges are left out), and
the mean over pictures of F1 at IoU 0.5 of the boxes that people are shown.
"""

from __future__ import annotations

import io
import json
import math
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from PIL import ImageDraw
from torch import Tensor

from .. import metrics as m
from ..errors import refuse
from ..forms import Prediction, Ragged
from ..kind import Kind, Metric, Profile, Stored, natural_order

BOX = ("bbox", "box", "boxes", "bounding_box", "xyxy", "xywh")
LABEL = ("label", "labels", "category", "categories", "class", "name", "category_name", "category_id", "class_name")
CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
SIZED = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"))
VISIBLE = 0.25  # a box that an augmentation leaves less than this share of has left
Found = tuple[list[float], str]  # one box as x1 y1 x2 y2, and its label


class Boxes(Kind):
    place = "none"
    head = "boxes"
    primary, credit = "map", "picture_f1"
    measures = frozenset({"map", "map_50", "picture_f1"})

    def __init__(
        self,
        format: Literal["xyxy", "xywh"] | None = None,
        of: str | None = None,
        label_column: str | None = None,
        size_columns: tuple[str, str] | None = None,
        relative: bool | None = None,
        labels: list[str] | None = None,
        shown: float = 0.5,
    ):
        """format: None: xywh where the boxes are called bbox or xywh, else xyxy. of: the picture column, None: the only one. label_column: of a
        label a box. size_columns: width and height in pixels. relative: boxes are shares already; None: they are where all lie within [0, 1].
        labels: all of them, in this order. shown: the least score of a box in answers for people; average precision sees all."""
        if not 0 <= shown <= 1:
            raise ValueError(f"shown ({shown}) must lie between 0 and 1")
        self.format, self.of, self.label_column, self.size_columns = format, of, label_column, size_columns
        self.relative, self.labels, self.shown = relative, labels, shown
        self.beside = tuple(c for c in (label_column, *(size_columns or ())) if c is not None)
        self.picture: Any = None  # the kind of `of`

    @classmethod
    def guess(cls, column: Profile) -> float:
        """Only objects with a box and a label in them: four numbers alone may mean anything."""
        rows = [c for c in column.sample if c]
        if not rows or not (pa.types.is_nested(column.type)):
            return 0.0
        try:
            return 0.9 if all(any(part.keys() & {*LABEL} and _numbers(part) for part in _parts(r)) for r in rows[:50]) else 0.0
        except (ValueError, AttributeError):
            return 0.0

    def meet(self, inputs: dict[str, Kind]) -> None:
        pictures = {n: k for n, k in inputs.items() if k.form == "picture" and not k.drawn}
        if self.of is not None and self.of not in pictures:
            raise refuse("kind.of", f"boxes lie in {self.of!r}, which is no picture among the inputs", fix=f"one of: {', '.join(pictures) or 'none'}")
        if self.of is None and len(pictures) > 1:
            raise refuse(
                "kind.of", f"boxes lie in one of the pictures {', '.join(pictures)}", fix=f"say which: {{boxes: {{of: {next(iter(pictures))}}}}}"
            )
        self.of_ = self.of or next(iter(pictures), None)
        self.picture = pictures.get(self.of_)

    def column(self, table: pa.Table, name: str) -> pa.ChunkedArray:
        """A struct: boxes, label (where there is a column of them), width and height or the picture."""
        named = {"boxes": name, "label": self.label_column} | dict(zip(("width", "height"), self.size_columns or ("", ""), strict=True))
        named |= {"picture": self.of_ if self.size_columns is None else None}
        named = {k: c for k, c in named.items() if c}
        if missing := [c for c in named.values() if c not in table.column_names and c != self.of_]:
            raise refuse(
                "data.missing_column", f"boxes are read with column {missing[0]!r}, which is missing", fix="add it, or change the kind's settings"
            )
        return pa.table({k: table.column(c) for k, c in named.items() if c in table.column_names}).to_struct_array()

    def fit(self, values: pa.ChunkedArray) -> None:
        self.relative_, self.names_ = self.relative, self.labels and [str(n) for n in self.labels]
        rows = self._read(values)
        every = np.array([box for row in rows or () for box, _ in row or ()], np.float64).reshape(-1, 4)
        if self.relative is None:
            self.relative_ = bool(len(every)) and bool((np.nan_to_num(every[:, 2:], nan=0) <= 1).all())
        if self.names_ is None:
            self.names_ = sorted({label for row in rows for _, label in row or ()}, key=natural_order)
        stored, self.clipped_, self.dropped_ = self._store(rows, self._sizes(values))
        boxes = stored["values"][:, :4].astype(np.float64)
        if self.dropped_ > 0.1 * len(every) or self.clipped_ > 0.25 * len(every):
            why = f"read as {'shares' if self.relative_ else 'pixels'}, {'as ' + self.format if self.format else 'format not declared'}"
            fix = "declare format: xyxy or xywh, relative: true or false, and size_columns"
            what = f"{self.dropped_} of {len(every)} boxes have no area or lie outside their picture, {self.clipped_} reach beyond it"
            raise refuse("data.boxes", what, why=why, fix=fix)
        if not len(boxes):
            raise refuse("data.boxes", "no training row has a box", why="there is nothing to learn to find", fix="check the target column")
        self.median_ = np.median(boxes[:, 2:] - boxes[:, :2], 0).tolist()  # width, height
        self.per_row_ = len(boxes) / max(1, int(stored["known"].sum()))

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        """values (sum, 5) float32: x1 y1 x2 y2 in [0, 1] and the label's index; offsets (N + 1,); known (N,)."""
        return self._store(self._read(values), self._sizes(values))[0]

    def _read(self, values: pa.ChunkedArray) -> list[list[Found] | None]:
        """Every row's boxes as written; a Refusal that names the first rows that cannot be read."""
        rows, wrong = [], []
        cells, labels = _field(values, "boxes"), _field(values, "label")
        for i, (cell, said) in enumerate(zip(cells, labels or [None] * len(cells), strict=True)):
            try:
                rows.append(None if cell is None else self._boxes(cell, said))
            except (ValueError, TypeError, RecursionError) as e:
                wrong.append(f"row {i}: {e}"[:200])
        if wrong:
            shown = "; ".join(wrong[:5])
            raise refuse(
                "data.boxes",
                f"{len(wrong)} of {len(values)} rows hold no boxes: {shown}",
                fix="correct them, or empty their cells (rows count from 0)",
            )
        return rows

    def _boxes(self, cell: Any, said: list[Any] | str | None) -> list[Found]:
        if isinstance(cell, str):
            cell = json.loads(cell) if cell.strip() else []
        said = json.loads(said) if isinstance(said, str) and said.strip()[:1] == "[" else said
        if cell is None or len(cell) == 0:
            return []
        found = []
        for part in _parts(cell):
            numbers, form = _numbers(part) if isinstance(part, dict) else (part, None)
            label = next((part[k] for k in LABEL if part.get(k) is not None), None) if isinstance(part, dict) else None
            box = [math.nan if v is None else float(v) for v in numbers]
            if len(box) != 4:
                raise ValueError(f"{numbers} has {len(box)} numbers, not 4")
            if (self.format or form or "xyxy") == "xywh":
                box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
            found.append((box, label))
        if self.label_column is not None:
            if said is None or isinstance(said, str) or len(said) != len(found):
                raise ValueError(f"{len(found)} boxes and {'no' if said is None or isinstance(said, str) else len(said)} labels")
            found = [(box, label) for (box, _), label in zip(found, said, strict=True)]
        return [(box, "object" if label is None else _text(label)) for box, label in found]

    def _sizes(self, values: pa.ChunkedArray) -> np.ndarray:
        """(N, 2) width and height of the pictures in pixels, NaN where nothing tells; ones where boxes are shares."""
        if self.relative_:
            return np.ones((len(values), 2))
        if self.size_columns is not None:
            return _numbers_of(_field(values, "width"), _field(values, "height"))
        if self.picture is None or values.type.get_field_index("picture") < 0:
            why = "boxes in pixels are stored as shares of the picture"
            raise refuse(
                "data.boxes", "nothing tells the size of the pictures", why=why, fix="name size_columns: [width, height], or of: the picture"
            )
        return _headers(_cells(values, "picture"), self.picture)

    def _store(self, rows: list[list[Found] | None], sizes: np.ndarray) -> tuple[Stored, int, int]:
        """(stored, boxes clipped by more than 1 %, boxes left out). A row whose picture has no size is unknown, unless it holds no box."""
        number, unseen, clipped, dropped = {n: i for i, n in enumerate(self.names_)}, [], 0, 0
        kept, counts, known = [], [], np.zeros(len(rows), bool)
        for i, row in enumerate(rows):
            known[i] = row is not None and (not row or bool(np.isfinite(sizes[i]).all()))
            mine = []
            for box, label in row if known[i] else ():
                if label not in number:
                    unseen.append(label)
                    continue
                share = np.array(box) / np.tile(sizes[i], 2)
                inside = share.clip(0, 1)
                if not np.isfinite(share).all() or (inside[2:] - inside[:2] <= 1e-6).any():
                    dropped += 1
                    continue
                clipped += bool((np.abs(inside - share) > 0.01).any())
                mine.append([*inside, number[label]])
            kept += mine
            counts.append(len(mine))
        if unseen:
            names = ", ".join(map(repr, sorted(set(unseen))[:5]))
            what, fix = (
                f"{len(unseen)} boxes have a label that training does not: {names}",
                "declare all of them: {boxes: {labels: [...]}}, or correct them",
            )
            raise refuse("data.unseen_label", what, why="the model has no class for it", fix=fix)
        offsets = np.concatenate([[0], np.cumsum(np.array(counts, np.int64))]).astype(np.int64)
        return {"values": np.array(kept, np.float32).reshape(-1, 5), "offsets": offsets, "known": known}, clipped, dropped

    def follow(self, value: Ragged, moves: dict[str, Tensor]) -> Ragged:
        """Boxes go with the picture's pixels, are clipped, and are gone when less than VISIBLE of them is left."""
        if self.of_ not in moves:
            return value
        move, (height, width) = moves[self.of_].to(value.values), self.picture.size_
        scale = value.values.new_tensor([width, height])
        x1, y1, x2, y2 = value.values[..., :4].unbind(-1)
        corners = torch.stack([torch.stack(p, -1) for p in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))], 2) * scale  # (B, T, 4, 2)
        corners = (torch.einsum("bij,btcj->btci", move[:, :, :2], corners) + move[:, None, None, :, 2]) / scale
        low, high = corners.amin(2), corners.amax(2)
        boxes = torch.cat([low, high], -1).clamp(0, 1)
        left = (boxes[..., 2:] - boxes[..., :2]).prod(-1) >= VISIBLE * (high - low).prod(-1)
        left &= value.mask & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        order = torch.argsort((~left).to(torch.uint8), dim=1, stable=True)
        values = torch.cat([boxes, value.values[..., 4:]], -1) * left.unsqueeze(-1)
        return Ragged(values.gather(1, order.unsqueeze(-1).expand_as(values)), left.sum(1))

    def _matched(self, prediction: Prediction, truth: Stored, least: float = 0.0) -> m.Matches:
        """Of the boxes whose score is at least so much."""
        mask = prediction.boxes.mask & (prediction.score >= least)
        boxes, scores = prediction.boxes.values[mask].numpy().astype(np.float64), prediction.score[mask].numpy().astype(np.float64)
        offsets, true = np.concatenate([[0], np.cumsum(mask.sum(1).numpy())]), truth["values"].astype(np.float64)
        return m.match_boxes(boxes, prediction.labels[mask].numpy(), scores, offsets, true[:, :4], true[:, 4].astype(np.int64), truth["offsets"])

    def curves(self, prediction: Prediction, truth: Stored) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """{label: (recall, precision)}, for a report."""
        return {self.names_[k]: curve for k, curve in m.box_curves(self._matched(prediction, truth)).items()}

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        known, matches = truth["known"], self._matched(prediction, truth)
        holds = matches.truths > 0  # (N, K): which classes a picture holds
        often = np.where(holds[known].any(0), holds[known].sum(0), len(known) + 1)
        rarest = np.where(known & holds[:, often.argmin()], 0, -1) if holds[known].any() else None

        def over(threshold: int | None) -> Metric:
            return Metric(lambda index: m.mean_average_precision(matches, index[known[index]], threshold), of=rarest)

        some, wanted = self._matched(prediction, truth, self.shown), np.diff(truth["offsets"])
        shown = (prediction.boxes.mask & (prediction.score >= self.shown)).sum(1).numpy()
        hits = np.bincount(some.picture, some.hit[:, 0], minlength=len(wanted))
        f1 = np.where(shown + wanted > 0, 2 * hits / np.maximum(shown + wanted, 1), 1.0)  # nothing there and nothing found is right
        return {"map": over(None), "map_50": over(0), "picture_f1": Metric.mean(np.where(known, f1, np.nan))}

    def read(self, out: np.ndarray) -> Prediction:
        """(B, T, 6): boxes as x1 y1 x2 y2 in shares of the picture's width and height, score, label's index; a score of 0 is padding."""
        form = "give (B, T, 6): x1 y1 x2 y2 in shares of width and height, a score in [0, 1], the label's index; a score of 0 is padding"
        if out.dtype.kind != "f" or out.ndim != 3 or out.shape[2] != 6:
            raise refuse("model.output", f"shape {out.shape} for boxes", fix=form)
        score, found = out[..., 4], out[out[..., 4] != 0]
        strange = {
            "scores outside [0, 1]": (found[:, 4] < 0) | (found[:, 4] > 1),
            f"labels that are none of 0 to {len(self.names_) - 1}": ~np.isin(found[:, 5], np.arange(len(self.names_))),
            "boxes far outside their picture (pixels?)": (found[:, :4] < -0.5).any(1) | (found[:, :4] > 1.5).any(1),
            "boxes whose second corner is not below and right of the first": (found[:, 2:4] < found[:, :2]).any(1),
        }
        if wrong := [f"{int(w.sum())} {what}" for what, w in strange.items() if w.any()]:
            raise refuse("model.output", f"of {len(found)} boxes {', '.join(wrong)}", fix=form)
        order = np.argsort(-score, axis=1, kind="stable")
        out, lengths = np.take_along_axis(out, order[..., None], 1), torch.from_numpy((score != 0).sum(1))
        whole = torch.from_numpy(out)
        boxes = Ragged(whole[..., :4].clamp(0, 1), lengths)
        return Prediction(boxes=boxes, labels=whole[..., 5].long(), score=whole[..., 4])

    def placed(self, prediction: Prediction, table: pa.Table) -> Prediction:
        """extra.size (B, 2): width and height of each picture in pixels, NaN where the table does not tell."""
        size = np.full((table.num_rows, 2), np.nan)
        if self.size_columns is not None and set(self.size_columns) <= set(table.column_names):
            size = _numbers_of(*(table.column(c).to_pylist() for c in self.size_columns))
        elif self.picture is not None and self.of_ in table.column_names:
            size = _headers(table.column(self.of_), self.picture)
        prediction.extra["size"] = torch.from_numpy(size)
        return prediction

    def answer(self, name: str, prediction: Prediction) -> dict[str, Any]:
        """JSON of the boxes with a score of at least `shown`, surest first, in pixels of the original picture where its size is known, and their
        number."""
        sizes, told, counts, units = prediction.extra.get("size"), [], [], []
        for i in range(len(prediction.boxes)):
            keep = prediction.boxes.mask[i] & (prediction.score[i] >= self.shown)
            keep = torch.nonzero(keep)[:, 0]
            keep = keep[prediction.score[i, keep].argsort(descending=True, stable=True)]
            pixels = sizes is not None and bool(torch.isfinite(sizes[i]).all())
            boxes = prediction.boxes.values[i, keep].double() * (sizes[i].repeat(2) if pixels else 1.0)
            each = zip(boxes.tolist(), prediction.labels[i, keep].tolist(), prediction.score[i, keep].tolist(), strict=True)
            digits = 1 if pixels else 5
            found = [{"label": self.names_[k], "score": round(s, 4), "box": [round(v, digits) for v in box]} for box, k, s in each]
            told.append(json.dumps(found, ensure_ascii=False))
            counts.append(len(found))
            units.append("pixels" if pixels else "shares")
        return {name: told, f"{name}.count": counts, f"{name}.unit": units}

    def illustrate(self, name: str, table: pa.Table, row: int, prediction: Prediction) -> dict[str, Any]:
        """The picture with true boxes in green and those of the prediction in orange, and how many of each class there are."""
        truth, keep = self.encode_target(self.column(table.slice(row, 1), name)), prediction.boxes.mask[row] & (prediction.score[row] >= self.shown)
        sides = {
            "truth": (truth["values"][:, :4], truth["values"][:, 4]),
            "predicted": (prediction.boxes.values[row, keep], prediction.labels[row, keep]),
        }
        counts = {k: np.bincount(np.asarray(labels).astype(int), minlength=len(self.names_)) for k, (_, labels) in sides.items()}
        told = {k: ", ".join(f"{n} {label}" for n, label in zip(c, self.names_, strict=True) if n) or "nothing" for k, c in counts.items()}
        image = self.picture and self.picture.thumbnail(table.column(self.of_)[row].as_py(), 448)
        if image is None:
            return told
        for side, colour in (("truth", "#2ca02c"), ("predicted", "#ff7f0e")):
            for x1, y1, x2, y2 in np.asarray(sides[side][0]) * np.tile(image.size, 2):
                ImageDraw.Draw(image).rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=3)
        file = io.BytesIO()
        image.save(file, "PNG")
        return told | {self.of_: file.getvalue()}

    def describe(self) -> str:
        shown = ", ".join(self.names_[:4]) + (", ..." if len(self.names_) > 4 else "")
        said = f"{self.per_row_:.1f} boxes a picture in {len(self.names_)} classes: {shown}"
        said += f"; {self.clipped_} clipped to their picture" if self.clipped_ else ""
        return said + (f"; {self.dropped_} without area or outside left out" if self.dropped_ else "")


def _parts(cell: Any) -> list[Any]:
    """A list of objects or of boxes; an object of lists is taken apart."""
    if not isinstance(cell, dict):
        if not isinstance(cell, (list, tuple)):
            raise ValueError(f"{cell!r} is no list of boxes"[:80])
        return list(cell)
    lists = {k: v for k, v in cell.items() if isinstance(v, list)}
    if not lists or any(k in cell and k not in lists for k in LABEL):
        return [cell]  # one object
    if len(length := {len(v) for v in lists.values()}) > 1:
        raise ValueError(f"its lists have different lengths: {sorted(length)}")
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _numbers(part: dict[str, Any]) -> tuple[list[Any], str | None] | None:
    """(the four numbers, their format where the names tell)."""
    for fields, form in (*((f, "xyxy") for f in CORNERS), *((f, "xywh") for f in SIZED)):
        if all(k in part for k in fields):
            return [part[k] for k in fields], form
    for key in BOX:
        if isinstance(part.get(key), (list, tuple)):
            return part[key], {"bbox": "xywh", "xywh": "xywh"}.get(key)
    raise ValueError(f"no box among {', '.join(part)}; known are {', '.join(BOX)}, xmin ymin xmax ymax and x y width height"[:200])


def _text(label: Any) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label).strip()


def _cells(values: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """One field of a struct, without copying the others."""
    return pa.chunked_array([c.field(name) for c in values.chunks], values.type.field(name).type)


def _field(values: pa.ChunkedArray, name: str) -> list[Any] | None:
    """The same as a list; None where there is no such field."""
    return None if values.type.get_field_index(name) < 0 else _cells(values, name).to_pylist()


def _numbers_of(width: list[Any], height: list[Any]) -> np.ndarray:
    """(N, 2), NaN where missing or not above 0."""
    size = np.array([[math.nan if v is None else float(v) for v in pair] for pair in zip(width, height, strict=True)]).reshape(-1, 2)
    return np.where(size > 0, size, np.nan)


def _headers(cells: pa.ChunkedArray, picture: Any) -> np.ndarray:
    """(N, 2) width and height from the pictures' headers, NaN where there is none."""
    sizes = np.full((len(cells), 2), np.nan)
    for i, cell in enumerate(cells):
        extent = picture.extent(cell.as_py())
        sizes[i] = sizes[i] if extent is None else extent[::-1]
    return sizes
