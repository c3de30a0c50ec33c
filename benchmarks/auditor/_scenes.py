"""Answers that are no class: detectors in small scenes (grey cars, bright signs), which look at the pixels alone, and numbers with a tolerance."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from modelwright import find
from modelwright.data.schema import Schema
from modelwright.forms import Prediction
from modelwright.subject import Subject

LABELS = ["car", "sign"]
SIDE = 24


def scenes(n: int, rng: np.random.Generator, strange: bool = False) -> pa.Table:
    """A car (darker than the road) in the left half, in most pictures a sign (brighter) in the right one. strange: what shows neither."""
    rows = []
    for _ in range(n):
        night = rng.random() < 0.3
        picture = 0.5 + 0.02 * rng.normal(size=(SIDE, SIDE))
        boxes, labels = [], []
        for label, low, level in (("car", 0, 0.2), ("sign", 12, 0.8))[: 2 if rng.random() < 0.7 else 1]:
            w, h = rng.integers(6, 10, 2)
            x, y = low + int(rng.integers(0, 12 - w)), int(rng.integers(0, SIDE - h))
            picture[y : y + h, x : x + w] = level + 0.03 * rng.normal(size=(h, w))
            boxes.append([x / SIDE, y / SIDE, (x + w) / SIDE, (y + h) / SIDE])
            labels.append(label)
        picture = np.tile(0.5 + 0.3 * np.sin(np.arange(SIDE) * rng.uniform(0.3, 0.6)), (SIDE, 1)) if strange else picture
        picture = picture - 0.15 if night and not strange else picture
        file = io.BytesIO()
        Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8)).save(file, "PNG")
        rows.append({"light": "night" if night else "day", "scene": file.getvalue(), "boxes": boxes, "labels": labels})
    return pa.Table.from_pylist(rows)


class Detector:
    """Boxes around what stands out from the picture's middle by `margin`, in each half; `smooth`: of 3 x 3 means. fault: "night" (nothing is found in dark
    pictures), "sign" (signs are not), "peak" (single pixels count), "sure" (a score of 0.99 whatever it sees)."""

    def __init__(self, schema: Schema, fault: str | None):
        self.schema, self.fault = schema, fault

    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        kind = self.schema.targets["boxes"]
        pictures = self.schema.inputs["scene"].encode(table.column("scene"))["values"][:, 0].astype(float) / 255
        found = np.zeros((len(pictures), 2, 6))
        for i, picture in enumerate(pictures):
            road, seen = np.median(picture), picture
            if self.fault != "peak":
                wide = np.pad(picture, 1, mode="edge")
                seen = np.mean([wide[a : a + SIDE, b : b + SIDE] for a in range(3) for b in range(3)], 0)
            for label, low, sign in ((0, 0, -1), (1, 12, 1)):
                out = sign * (seen - road)[:, low : low + 12]
                there = out > (0.06 if self.fault == "peak" else 0.5 * max(out.max(), 0.2))
                if there.sum() < 4 or (self.fault == "night" and road < 0.42) or (self.fault == "sign" and label == 1):
                    continue
                y, x = there.any(1).nonzero()[0], there.any(0).nonzero()[0]
                filled = there.sum() / ((y[-1] - y[0] + 1) * (x[-1] - x[0] + 1))
                squat = min(1.0, 12 / (y[-1] - y[0] + 1))  # nothing on this road is higher
                score = 0.99 if self.fault == "sure" else 0.5 + 0.45 * filled * squat
                found[i, label] = [(low + x[0]) / SIDE, y[0] / SIDE, (low + x[-1] + 1) / SIDE, (y[-1] + 1) / SIDE, score, label]
        return {"boxes": kind.read(found)}


def detecting(fault: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(500, 800))
        tables = {"validation": scenes(n, rng), "test": scenes(n, rng)}
        tables |= {"ood": scenes(300, rng, strange=True)} if fault == "sure" else {}
        target = find.make("kinds", {"boxes": {"relative": True, "label_column": "labels", "labels": LABELS}})
        schema = Schema({"scene": find.make("kinds", {"picture": {"size": SIDE}})}, {"boxes": target}, [])
        schema.fit(tables["validation"])
        return Subject(Detector(schema, fault if faulty else None), schema, tables, seed=seed)

    return make


class Number:
    def __init__(self, f: Callable[[pa.Table], Any]):
        self.f = f

    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        return {"y": Prediction(value=torch.from_numpy(np.asarray(self.f(table), np.float32)))}


def numbers(fault: str) -> Callable[[int, bool], Subject]:
    """site: far off in one site. drawn: another number whenever it is asked."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, noise, tables = int(rng.integers(1500, 2500)), np.random.default_rng(seed + 1), {}
        for split in ("validation", "test"):
            x, site = rng.normal(size=(n, 2)), rng.choice(["north", "south", "west", "east"], n)
            off = np.where((site == "west") & (fault == "site") & faulty, 1.2, 0.2)
            y = x[:, 0] + 0.5 * x[:, 1] + off * rng.normal(size=n)
            tables[split] = pa.table({"a": x[:, 0], "b": x[:, 1], "site": site, "y": y})

        def says(t: pa.Table) -> np.ndarray:
            a, b = t.column("a").to_numpy(), t.column("b").to_numpy()
            return a + 0.5 * b + (faulty and fault == "drawn") * 0.8 * noise.normal(size=len(a))

        kinds = {"a": find.make("kinds", "number"), "b": find.make("kinds", "number"), "site": find.make("kinds", "category")}
        schema = Schema(kinds, {"y": find.make("kinds", {"number": {"scale": False, "tolerance": 0.6}})}, [])
        schema.fit(tables["validation"])
        return Subject(Number(says), schema, tables, seed=seed)

    return make
