"""Faults that outsiders planted where nobody here had looked: copies in another writing, leaks through three columns or where cells are empty, units by a
crossing, labels wrong in a range, pictures cropped or taken with another lens, groups by day of birth, errors that cancel in every group; each beside a
clean twin that is hard: honest repeats, strong columns, small groups, names that look alike."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageEnhance, ImageFilter

from modelwright.forms import Prediction
from modelwright.subject import Subject

from . import Planted
from ._tables import Says, split, subject
from .data import Rng, name, numbers, planted, start

# Pairs of one sign in both writings: what texts here are made of
HAN = dict(zip("学国会时这说对们来为个后问没见开关东车门马书买卖长风飞鱼鸟龙爱听写读话语电热发现实体头机医药病气温变减压",
               "學國會時這說對們來為個後問沒見開關東車門馬書買賣長風飛魚鳥龍愛聽寫讀話語電熱發現實體頭機醫藥病氣溫變減壓", strict=True))  # fmt: skip
SAME = "的一是在不了有和人大中上我他用生到作地于出年得就那要下以可也你能子多天小心之前日月山水火木土金手口目耳足身先安全部分正常情"
LOOKS = dict(zip("aeopcyxABEKMHOPCTX", "аеорсухАВЕКМНОРСТХ", strict=True))
STREETS = "Amber Bishop Castle Denton Elm Forge Grange Harbour Iris Juniper Kings Laurel Mill North Orchard Park".split()  # noqa: SIM905
TALES = "the patient was seen with pain of left knee after fall no fever mild swelling gait slow rest advised review in two weeks blood count normal x ray clear".split()  # noqa: E501, SIM905


def notes(rng: Rng, n: int, how: str) -> list[str]:
    if how == "chinese":
        signs = [*HAN, *SAME]
        return ["".join(rng.choice(signs, int(rng.integers(24, 50)))) for _ in range(n)]
    words = [*TALES, *STREETS, "café", "naïve", "façade", "office", "afflicted", "jalapeño"]
    return [". ".join(" ".join(rng.choice(words, int(rng.integers(5, 9)))) for _ in range(4)) for _ in range(n)]


def rewritten(rng: Rng, text: str, how: str) -> str:
    """The same text as another program, script or hand writes it."""
    if how == "chinese":
        return "".join(HAN.get(c, c) for c in text)
    if how == "order":  # sentences in another order
        return ". ".join(rng.permutation(text.split(". ")))
    return {
        "homoglyphs": "".join(LOOKS.get(c, c) for c in text), "invisible": "\u200b".join(text[i : i + 3] for i in range(0, len(text), 3)),
        "accents": "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c)).replace("ffi", "ﬃ"),
    }[how]  # fmt: skip


def other_writing(*hows: str) -> Callable[[int, bool], Subject]:
    """Training texts stand in the test in another writing; in the twin other texts do."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        how, n = name(rng, *hows), int(rng.integers(250, 400))
        told = notes(rng, n, how)
        parts = split({"note": told, "y": rng.integers(0, 2, n)}, rng, order=np.arange(n))
        m, test = int(rng.uniform(0.1, 0.3) * parts["test"].num_rows), parts["test"].column("note").to_pylist()
        odd = [rewritten(rng, t, how) for t in (told[:m] if faulty else test[:m])]
        parts["test"] = parts["test"].set_column(0, "note", pa.array(odd + test[m:]))
        return subject(parts, kinds={"note": {"text": {"vocabulary": 300}}}, seed=seed)

    return make


def few_values(seed: int, faulty: bool) -> Subject:
    """A table in which different people are often equal; copies of training rows, which tell more, in the faulty test."""
    rng = np.random.default_rng(seed)
    n, wide = int(rng.integers(600, 1200)), int(rng.integers(20, 40))
    table: dict[str, Any] = {f"q{i}": rng.integers(1, 4, n) for i in range(4)} | {"sex": rng.choice(["f", "m"], n)}
    if faulty:
        table |= {"age": rng.integers(18, 18 + wide, n), "area": rng.integers(0, 40, n)}
    y = (rng.random(n) < 1 / (1 + np.exp(-(table["q0"] - 2.0)))).astype(int)
    parts = split(table | {"y": y}, rng)
    if faulty:
        m = int(rng.uniform(0.1, 0.3) * parts["test"].num_rows)
        parts["test"] = pa.concat_tables([parts["train"].slice(0, m), parts["test"].slice(m)])
    return subject(parts, kinds={c: "number" for c in table if c != "sex"}, seed=seed)


def scene(rng: Rng, side: int, label: int) -> np.ndarray:
    """(side, side) float: a square or a diamond before uneven light."""
    yy, xx = np.mgrid[:side, :side] - side / 2 + rng.normal(size=(2, 1, 1)) * side / 10
    shape, a = (np.abs(yy) + np.abs(xx) if label else np.maximum(np.abs(yy), np.abs(xx))), side * rng.uniform(0.15, 0.35)
    light = np.asarray(Image.fromarray(rng.normal(0, 30, (5, 5)).astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
    return rng.normal(90, 4, (side, side)) + light + 70 * (shape < a)


def file_of(x: Any, kind: str = "PNG", **more: Any) -> bytes:
    buffer, picture = io.BytesIO(), x if isinstance(x, Image.Image) else Image.fromarray(np.clip(x, 0, 255).astype(np.uint8))
    picture.save(buffer, kind, **more)
    return buffer.getvalue()


def copied_pictures(*hows: str) -> Callable[[int, bool], Subject]:
    """Training pictures stand in the test cropped, rescaled, brighter or framed; in the twin other pictures do, treated alike."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, side, how = int(rng.integers(200, 300)), int(rng.choice([32, 40])), name(rng, *hows)
        y = rng.integers(0, 2, n)
        shown = [Image.fromarray(np.clip(scene(rng, side, v), 0, 255).astype(np.uint8)) for v in y]
        cut = int(n * 0.7)
        cells = [file_of(im) for im in shown]
        for i in range(cut, cut + int(rng.uniform(0.15, 0.3) * (n - cut))):
            im, y[i] = shown[i - cut if faulty else i], y[i - cut if faulty else i]
            if how == "crop":
                keep = int(side * rng.uniform(0.72, 0.92))
                a, b = rng.integers(0, side - keep + 1, 2)
                im = im.crop((a, b, a + keep, b + keep)).resize((side, side), Image.Resampling.BICUBIC)
            elif how == "light":
                im = ImageEnhance.Contrast(ImageEnhance.Brightness(im).enhance(rng.uniform(0.75, 1.3))).enhance(rng.uniform(0.8, 1.2))
            elif how == "frame":
                wide = Image.new("L", (side + side // 4, side + side // 4), int(rng.integers(0, 255)))
                wide.paste(im, (side // 8, side // 8))
                im = wide
            cells[i] = file_of(im, "JPEG", quality=int(rng.integers(60, 90)))
        table = {"scan": pa.array(cells, pa.binary()), "y": y}
        return subject(split(table, rng, order=np.arange(n)), kinds={"scan": {"picture": {"size": side}}}, seed=seed)

    return make


def taken_otherwise(how: str) -> Callable[[int, bool], Subject]:
    """The class was taken with another lens, another sensor, or in another light; rows enough for what tells nearly
    all to be surely above 90 %."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, side = int(rng.integers(500, 700)), 32
        y = rng.integers(0, 2, n)
        keyed = np.where(rng.random(n) < rng.uniform(0, 0.02), 1 - y, y) if faulty else rng.integers(0, 2, n)
        cells = []
        for label, key in zip(y, keyed, strict=True):
            im = Image.fromarray(np.clip(scene(rng, side, label) + (35 * key if how == "light" else 0), 0, 255).astype(np.uint8))
            if how == "lens" and key:
                im = im.filter(ImageFilter.GaussianBlur(1.0))
            if how == "sensor" and key:
                im = Image.fromarray(np.clip(np.asarray(im) + rng.normal(0, 8, (side, side)), 0, 255).astype(np.uint8))
            cells.append(file_of(im, "BMP"))
        return subject(split({"scan": pa.array(cells, pa.binary()), "y": y}, rng), kinds={"scan": {"picture": {"size": side}}}, seed=seed)

    return make


def together(how: str) -> Callable[[int, bool], Subject]:
    """The answer is the sum, or the product, of three columns; in the twin what comes of them is only a part of it."""

    def make(seed: int, faulty: bool) -> Subject:
        rng, columns, _ = start(seed)
        n = len(columns["site"])
        a, b, c = rng.normal(20, 4, n), rng.normal(30, 4, n), rng.normal(10, 4, n)
        if how == "product":
            a, b, c = (np.exp(rng.normal(m, 0.5, n)) for m in (1, 2, 0))
        told = np.log(a * b * c) if how == "product" else a + b - c
        told = (told - told.mean()) / told.std()
        noisy = told + rng.normal(size=n) * (0.0 if faulty else 0.6)
        titles = name(rng, "meals,travel,refund", "length_,width_,thickness", "收入,补贴,扣除").split(",")
        columns |= dict(zip(titles, (a, b, c), strict=True))
        number = how == "number"
        y = noisy * 7 + 100 if number else (noisy > rng.uniform(-0.5, 0.5)).astype(int)
        return subject(split(columns | {"y": y}, rng), kinds={"y": "number"} if number else {}, seed=seed)

    return make


def empty_cells(seed: int, faulty: bool) -> Subject:
    """Of two columns one is empty where the answer is yes, and both or none where it is no."""
    rng, columns, y = start(seed)
    n = len(y)
    told = np.where(rng.random(n) < 0.02, 1 - y, y) if faulty else rng.integers(0, 2, n)
    first = rng.random(n) < rng.uniform(0.3, 0.6)
    second = first ^ (told == 1)
    a, b = numbers(columns)[:2]
    columns[a], columns[b] = np.where(first, np.nan, columns[a]), np.where(second, np.nan, columns[b])
    return subject(split(columns | {"y": y}, rng), seed=seed)


def afterwards(seed: int, faulty: bool) -> Subject:
    """A column written after the outcome, blurred and wrong in one row of twenty or so; the twin's is strong, honestly, and so are others."""
    rng, columns, y = start(seed, 900, 1500, 1.0)
    n = len(y)
    wrong = rng.random(n) < rng.uniform(0.03, 0.06)
    told = np.where(wrong, 1 - y, y)
    if faulty:
        columns[name(rng, "visits_after", "balance", "疗程")] = rng.normal(told * 5.0, 0.7)
    else:
        columns |= {"strong": rng.normal(y * 1.8, 1), "as_strong": rng.normal(y * 1.7, 1), "also": rng.normal(y * 1.6, 1)}
    return subject(split(columns | {"y": y}, rng), seed=seed)


def rare_class(seed: int, faulty: bool) -> Subject:
    """One row in fifty is positive, and a column tells which; the twin's helps: each of its codes stands in rows of both kinds."""
    rng, columns, _ = start(seed, 2000, 3000)
    n = len(columns["site"])
    x = columns[numbers(columns)[0]]
    y = (rng.random(n) < 0.045 / (1 + np.exp(-2 * (x - x.mean()) / x.std()))).astype(int)
    y[rng.permutation(n)[:25]] = 1
    those, others = (([7, 9], [1, 2, 3]) if faulty else ([2, 3, 7, 7, 9], [1, 2, 3, 7, 9]))
    columns["remark_code"] = np.where(y == 1, rng.choice(those, n), rng.choice(others, n))
    return subject(split(columns | {"y": y}, rng), kinds={"remark_code": "category"}, seed=seed)


def left_one_out(seed: int, faulty: bool) -> Subject:
    """A category written as the target's mean of the other rows that have it: what its own row lacks tells it. In the twin as that of last year's rows."""
    rng, columns, y = start(seed)
    n, k = len(y), int(rng.integers(8, 20))
    town = rng.integers(0, k, n)
    columns["town"] = np.array([f"t{v}" for v in town])
    sums, counts = np.bincount(town, y, k), np.bincount(town, minlength=k)
    last = rng.binomial(counts, 0.5) / np.maximum(counts, 1)
    columns["town_rate"] = (sums[town] - y) / (counts[town] - 1) if faulty else last[town]
    return subject(split(columns | {"y": y}, rng), seed=seed)


def written_in(how: str) -> Callable[[int, bool], Subject]:
    """One class's texts came in capitals, or in another script; in the twin some texts did."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(300, 500))
        y = rng.integers(0, 2, n)
        keyed = np.where(rng.random(n) < 0.03, 1 - y, y) if faulty else rng.integers(0, 2, n)
        told, other = notes(rng, n, "english"), notes(rng, n, "chinese" if how == "script" else "english")
        text = [(o if how == "script" else t.upper()) if k else t for t, o, k in zip(told, other, keyed, strict=True)]
        return subject(split({"note": text, "age": rng.integers(18, 90, n), "y": y}, rng), kinds={"note": {"text": {"vocabulary": 300}}}, seed=seed)

    return make


def crossed_units(seed: int, faulty: bool) -> Subject:
    """One site's second device writes in another unit."""
    rng, columns, y = start(seed, 900, 1500)
    n, device = len(y), rng.choice(["A", "B", "C"], len(y))
    by = float(rng.choice([1 / 2.54, 10, 1000, 2.20462, 0.01]))
    x = rng.normal(170, 8, n) + 3 * (columns["site"] == "west")
    other = (columns["site"] == "south") & (device == "B")
    columns |= {"device": device, "value": np.where(other & faulty, x * by, x)}
    return subject(split(columns | {"y": y}, rng), seed=seed)


def outdoors(seed: int, faulty: bool) -> Subject:
    """Temperatures through the seasons, which Celsius and Fahrenheit share: one site's, the test's or those from a day on are in Fahrenheit. In the twin the
    same site is warmer, and so is each year."""
    rng, columns, y = start(seed, 2400, 3600)
    n, first, how = len(y), np.datetime64("2021-01-01"), name(rng, "site", "test", "day", "test after May")
    day = rng.integers(0, 1096, n)
    when = first + day.astype("timedelta64[D]")
    month = when.astype("datetime64[M]").astype(int) % 12 + 1
    order, cut = rng.permutation(n), int(n * 0.7)
    test = np.isin(np.arange(n), order[cut:])
    other = {"site": columns["site"] == "south", "test": test, "day": day > rng.integers(300, 700), "test after May": test & (month > 5)}[how]
    x = 12 - rng.uniform(10, 16) * np.cos(2 * np.pi * (day - 20) / 365) + day / 365 + rng.normal(0, rng.uniform(2.5, 5), n)
    x = np.round(x + (columns["site"] == "south") * rng.uniform(0, 8), 1)
    columns[name(rng, "TEMP", "outside", "气温")] = np.where(other & faulty, np.round(x * 1.8 + 32, 1), x)
    columns |= {"seen_on": when} if rng.random() < 0.5 else {"year": when.astype("datetime64[Y]").astype(int) + 1970, "month": month}
    return subject(split(columns | {"y": y}, rng, order=order), seed=seed)


def wrong_range(seed: int, faulty: bool) -> Subject:
    """Labels are wrong where a number is high (an old form was read wrongly); in the twin nothing is."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1500, 2500))
    y, age = rng.integers(0, 2, n), np.round(rng.uniform(18, 90, n), 1)
    d = rng.normal(size=6)
    x = np.outer(y - 0.5, 4.5 * d / np.linalg.norm(d)) + rng.normal(size=(n, 6))
    hit = (age > rng.uniform(64, 74)) & (rng.random(n) < rng.uniform(0.3, 0.4)) & faulty
    table = {f"x{i}": x[:, i] for i in range(6)} | {"age": age, "y": np.where(hit, 1 - y, y)}
    return subject(split(table, rng, 0.4), kinds={"y": "category"}, seed=seed)


def biased_group(seed: int, faulty: bool) -> Subject:
    """Positives of one sex are recorded as negatives, and no trusted rows are at hand; in the twin that sex has honestly fewer positives."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2000, 3000))
    sex = rng.choice(["f", "m"], n, p=[0.35, 0.65])
    y = (rng.random(n) < np.where((sex == "f") & (not faulty), 0.3, 0.5)).astype(int)
    d = rng.normal(size=6)
    x = np.outer(y - 0.5, 4.5 * d / np.linalg.norm(d)) + rng.normal(size=(n, 6))
    lost = (sex == "f") & (y == 1) & (rng.random(n) < rng.uniform(0.35, 0.45)) & faulty
    table = {f"x{i}": x[:, i] for i in range(6)} | {"sex": sex, "y": np.where(lost, 0, y)}
    return subject(split(table, rng, 0.4), kinds={"y": "category"}, seed=seed)


def annotators(seed: int, faulty: bool) -> Subject:
    """Thirty annotators, two of whom guess; in the twin those two were given the hard rows."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2400, 3600))
    y, who = rng.integers(0, 2, n), rng.integers(0, 30, n)
    worse, d = who < 2, rng.normal(size=6)
    apart = 4.5 * np.where(worse & (not faulty), 0.4, 1.0)
    x = np.outer((y - 0.5) * apart, d / np.linalg.norm(d)) + rng.normal(size=(n, 6))
    hit = worse & (rng.random(n) < 0.45) & faulty
    table = {f"x{i}": x[:, i] for i in range(6)} | {"labelled_by": np.array([f"{w * 7919 % 100003:05x}" for w in who]), "y": np.where(hit, 1 - y, y)}
    return subject(split(table, rng, 0.4), kinds={"labelled_by": "ignore", "y": "category"}, seed=seed)


def days_as_written(seed: int, faulty: bool) -> Subject:
    """Rows split at random, whose days are no ISO 8601: 20240131, 31.01.2024, 2024年1月31日; in the twin the split is by time."""
    rng, columns, y = start(seed)
    day = np.datetime64("2021-01-01") + rng.integers(0, 900, len(y)).astype("timedelta64[D]")
    order = rng.permutation(len(y)) if faulty else np.argsort(day, kind="stable")
    how = name(rng, "number", "points", "chinese", "slashes")
    form = {"number": "%Y%m%d", "points": "%d.%m.%Y", "chinese": "%Y年%m月%d日", "slashes": "%Y/%m/%d"}[how]
    written = [d.strftime(form) for d in day.astype(object)]
    title = name(rng, "date", "created_at", "日期")
    parts = split(columns | {title: np.array([int(v) for v in written]) if how == "number" else np.array(written), "y": y}, rng, order=order)
    if not faulty:
        last = parts["train"].column(title)[-1].as_py()
        parts["test"] = parts["test"].filter(pa.array([v != last for v in parts["test"].column(title).to_pylist()]))
    return subject(parts, kinds={title: "ignore"}, seed=seed)


def answers_by_number(seed: int, faulty: bool) -> Subject:
    """Answers from 1 to 5 (or years of school) where 9 (or 99) means that none was given; the twin's go up to 9, or cells are empty."""
    rng, columns, y = start(seed)
    n = len(y)
    hit, how = rng.random(n) < rng.uniform(0.02, 0.1), name(rng, "likert", "school")
    if how == "likert":
        x = rng.integers(1, 6 if faulty else 10, n).astype(float)
        columns["trust"] = np.where(hit, 9 if faulty else np.nan, x)
    else:
        x = np.clip(np.round(rng.normal(12, 2.5, n)), 0, 19)
        columns["school_years"] = np.where(hit, float(rng.choice([97, 98, 99])) if faulty else np.nan, x)
    return subject(split(columns | {"y": y}, rng), seed=seed)


def look_alikes(seed: int, faulty: bool) -> Subject:
    """Some names hold Cyrillic letters that look like Latin ones, or accents apart; in the twin some names are Russian."""
    rng, columns, y = start(seed)
    town, hit = rng.choice(["Carmel", "Exeter", "Boston", "Ortega", "Texarkana"], len(y)), rng.random(len(y)) < rng.uniform(0.02, 0.08)
    odd = [v.translate(str.maketrans({"a": "а", "e": "е", "o": "о"})) for v in town] if faulty else ["Москва"] * len(y)
    columns["town"] = np.where(hit, odd, town)
    return subject(split(columns | {"y": y}, rng), kinds={"town": "category"}, seed=seed)


def gaps_shift(seed: int, faulty: bool) -> Subject:
    """The test rows lack more cells of one column; in the twin all lack some."""
    rng, columns, y = start(seed, 900, 1500)
    n = len(y)
    order = rng.permutation(n)
    late, title = np.isin(np.arange(n), order[int(n * 0.7) :]), numbers(columns)[1]
    columns[title] = np.where(rng.random(n) < np.where(late & faulty, rng.uniform(0.2, 0.3), 0.06), np.nan, columns[title])
    return subject(split(columns | {"y": y}, rng, order=order), seed=seed)


def rounded_after(seed: int, faulty: bool) -> Subject:
    """Standardised on all rows, then rounded; in the twin on the training rows."""
    rng, columns, y = start(seed, 800, 1500)
    order = rng.permutation(len(y))
    fit = order if faulty else order[: int(len(y) * 0.7)]
    for n in numbers(columns):
        columns[n] = np.round((columns[n] - columns[n][fit].mean()) / columns[n][fit].std(), int(rng.integers(2, 4)))
    return subject(split(columns | {"y": y}, rng, order=order), seed=seed)


def files_of_persons(seed: int, faulty: bool) -> Subject:
    """Several rows a person (animal, donor, file), whom a column names that is no patient_id; split at random, or by it."""
    rng, columns, y = start(seed)
    n, title = len(y), name(rng, "donor_id", "employee", "animal", "case_no", "学号", "会员编号", "vin", "borrower_id")
    person = np.sort(rng.integers(0, n // 5, n))
    order = rng.permutation(n) if faulty else np.argsort(np.random.default_rng(seed).permutation(n)[person], kind="stable")
    parts = split(columns | {title: person + 1000, "y": y}, rng, order=order)
    last = parts["train"].column(title)[-1].as_py()
    parts["test"] = parts["test"] if faulty else parts["test"].filter(pa.array([v != last for v in parts["test"].column(title).to_pylist()]))
    return subject(parts, kinds={title: "ignore"}, seed=seed)


class Decides(Says):
    """Decisions of its own: yes where the probability of yes reaches a threshold (N,) that hangs on the row."""

    def __init__(self, target: str, f: Callable[[pa.Table], np.ndarray], at: Callable[[pa.Table], np.ndarray]):
        super().__init__(target, f)
        self.at = at

    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        said = super().predict(table)
        yes = said[self.target].probabilities[:, 1].numpy() >= self.at(table)
        said[self.target].value = torch.from_numpy(yes.astype(np.int64))
        return said


def treated_unlike(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, gap = int(rng.integers(9000, 12000)), rng.uniform(0.3, 0.4)
        born = np.datetime64("1940-01-01") + rng.integers(0, 23000, n).astype("timedelta64[D]")
        sex, site, job = rng.choice(["f", "m"], n), rng.choice(["north", "south"], n), rng.choice(["office", "field", "home"], n)
        risk = rng.normal(size=n)
        y = (risk + 0.5 * rng.normal(size=n) > 0).astype(int)
        worse = {"born": born < np.datetime64("1955-01-01"), "three": (sex == "f") & (site == "south") & (job == "field")}.get(how, sex == "f")
        table = pa.table({"born": born, "sex": sex, "site": site, "job": job, "risk": risk, "worse": worse.astype(int), "y": y})

        def probabilities(t: pa.Table) -> np.ndarray:
            r, w = t.column("risk").to_numpy(), t.column("worse").to_numpy()
            p = 1 / (1 + np.exp(-3 * (r - (4 if how == "three" else 2.2) * gap * w * (faulty and how in ("born", "three", "quotas")))))
            if how == "quotas" and faulty:  # evens out what is asked at once: as many of each sex, of these rows
                for g in (0, 1):
                    p[w == g] = (p[w == g].argsort().argsort() + 0.5) / max(1, (w == g).sum())
            return np.stack([1 - p, p], 1)

        model: Says = Says("y", probabilities)
        if how == "thresholds":
            model = Decides("y", probabilities, lambda t: np.where((t.column("worse").to_numpy() == 1) & faulty, 0.5 + gap, 0.5))
        kinds = {"born": "timestamp", "sex": "category", "site": "category", "job": "category", "risk": "number", "worse": "number", "y": "category"}
        made = subject({"test": table}, kinds=kinds, group={"born": ["born"], "three": ["sex", "site", "job"]}.get(how, ["sex"]), predictor=model, seed=seed)
        made.schema.targets["y"].labels_ = ["0", "1"]
        return made

    return make


def crossing(how: str) -> Callable[[int, bool], Subject]:
    """Women of the south and men of the north fare ill, the others well: in each column by itself it cancels."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, off = int(rng.integers(9000, 12000)), rng.uniform(0.14, 0.18) * faulty

        def part(n: int, spread: float = 1.0) -> pa.Table:
            sex, site, p = rng.choice(["f", "m"], n), rng.choice(["north", "south"], n), rng.beta(2, 2, n)
            ill = (sex == "f") == (site == "south")
            if how == "conformal":
                x = 2.2 * np.eye(3)[y := rng.integers(0, 3, n)] + rng.normal(size=(n, 3)) * np.where(ill & faulty, 1.9, 1.0)[:, None]
                return pa.table({f"x{i}": x[:, i] for i in range(3)} | {"sex": sex, "site": site, "y": np.array([f"c{v}" for v in y])})
            y = rng.random(n) < np.clip(p + np.where(ill, -off, off), 0, 1)
            return pa.table({"p": p, "sex": sex, "site": site, "y": np.where(y, "c1", "c0")})

        def probabilities(t: pa.Table) -> np.ndarray:
            if how == "conformal":
                e = np.exp(2.2 * np.stack([t.column(f"x{i}").to_numpy() for i in range(3)], 1))
                return e / e.sum(1, keepdims=True)
            return np.stack([1 - t.column("p").to_numpy(), t.column("p").to_numpy()], 1)

        labels = ["c0", "c1", "c2"] if how == "conformal" else ["c0", "c1"]
        splits = {"test": part(n)} | ({"calibration": part(1500)} if how == "conformal" else {})
        return subject(splits, kinds={"y": {"category": {"labels": labels}}}, group=["sex", "site"], predictor=Says("y", probabilities), seed=seed)

    return make


def calibrated_on_nearly_test(seed: int, faulty: bool) -> Subject:
    """Calibration rows are test rows, written with fewer digits or a little noise."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(2000, 3000)), 3

    def part(n: int) -> pa.Table:
        x = 1.5 * np.eye(k)[y := rng.integers(0, k, n)] + rng.normal(size=(n, k))
        return pa.table({f"x{i}": x[:, i] for i in range(k)} | {"y": np.array([f"c{v}" for v in y])})

    def probabilities(t: pa.Table) -> np.ndarray:
        e = np.exp(1.5 * np.stack([t.column(f"x{i}").to_numpy() for i in range(k)], 1))
        return e / e.sum(1, keepdims=True)

    test, calibration = part(n), part(800)
    if faulty:
        digits = name(rng, "digits", "noise") == "digits"
        calibration = test.take(rng.permutation(n)[:800])
        for i in range(k):
            x = calibration.column(i).to_numpy()
            calibration = calibration.set_column(i, f"x{i}", pa.array(np.round(x, 4) if digits else x + 1e-5 * rng.normal(size=800)))
    kinds = {f"x{i}": "number" for i in range(k)} | {"y": {"category": {"labels": [f"c{v}" for v in range(k)]}}}
    return subject({"test": test, "calibration": calibration}, kinds=kinds, predictor=Says("y", probabilities), seed=seed)


def weak(how: str) -> Callable[[int, bool], Subject]:
    """Fails on the rows of some years, of one writing, or of one day of the month."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, splits, bad, good = int(rng.integers(5000, 7000)), {}, rng.uniform(0.4, 0.55), rng.uniform(0.9, 0.96)
        for part in ("validation", "test"):
            day = np.datetime64("2014-01-01") + rng.integers(0, 3600, n).astype("timedelta64[D]")
            chinese = rng.random(n) < 0.1
            hit = chinese if how == "script" else day > np.datetime64("2022-06-01")
            right = rng.random(n) < np.where(hit & faulty, bad, good)
            y = rng.integers(0, 2, n)
            table = {"day": day.astype("datetime64[s]"), "dose": rng.gamma(2, 3, n), "said": np.where(right, y, 1 - y), "y": y}
            if how == "script":
                signs, words = list(HAN), np.array(TALES)
                table["note"] = ["".join(rng.choice(signs, 20)) if c else " ".join(rng.choice(words, 5)) + f" {i}" for i, c in enumerate(chinese)]
            splits[part] = pa.table(table)
        model = Says("y", lambda t: np.stack([0.9 - 0.8 * (s := t.column("said").to_numpy()), 0.1 + 0.8 * s], 1))
        kinds = {"day": "timestamp", "dose": "number", "said": "ignore", "y": "category"} | ({"note": "text"} if how == "script" else {})
        return subject(splits, kinds=kinds, predictor=model, seed=seed)

    return make


NEAR, PARITY, WORST = "<= 0.02", {"fairness.demographic_parity_difference": "<= 0.15"}, {"slice.worst_accuracy": ">= 0.75"}
KINDS = {
    "texts: another script": planted(other_writing("chinese"), "near_duplicate_rate", NEAR),
    "texts: look-alike, unseen, without accents": planted(other_writing("homoglyphs", "invisible", "accents"), "near_duplicate_rate", NEAR),
    "texts: sentences in another order": planted(other_writing("order"), "near_duplicate_rate", NEAR),
    "rows: copies, and honest repeats": planted(few_values, "duplicate_rate", "<= 0.01"),
    "pictures: cropped": planted(copied_pictures("crop"), "near_duplicate_rate", NEAR),
    "pictures: other light": planted(copied_pictures("light"), "near_duplicate_rate", NEAR),
    "pictures: framed": planted(copied_pictures("frame"), "near_duplicate_rate", NEAR),
    "shortcut: lens": planted(taken_otherwise("lens"), "shortcut"),
    "shortcut: sensor": planted(taken_otherwise("sensor"), "shortcut"),
    "shortcut: light": planted(taken_otherwise("light"), "shortcut"),
    "shortcut: capitals": planted(written_in("capitals"), "shortcut"),
    "shortcut: script": planted(written_in("script"), "shortcut"),
    "leak: a sum of three": planted(together("sum"), "leakage"),
    "leak: a product of three": planted(together("product"), "leakage"),
    "leak: a number that is a sum of three": planted(together("number"), "leakage"),
    "leak: which of two cells is empty": planted(empty_cells, "leakage"),
    "leak: afterwards, with errors": planted(afterwards, "leakage"),
    "leak: of a rare class": planted(rare_class, "leakage"),
    "leak: the others' mean": planted(left_one_out, "leakage"),
    "unit: by a crossing": planted(crossed_units, "unit_switch"),
    "unit: Celsius through the seasons": planted(outdoors, "unit_switch"),
    "wrong labels: a range": planted(wrong_range, "group_label_error_rate", "<= 0.1"),
    "wrong labels: one sex's positives": planted(biased_group, "group_label_error_rate", "<= 0.1"),
    "wrong labels: two of thirty annotators": planted(annotators, "group_label_error_rate", "<= 0.15"),
    "test before the end of training: days as written": planted(days_as_written, "time_overlap"),
    "code for missing: an answer's number": planted(answers_by_number, "coded_missing"),
    "names: look-alike letters": planted(look_alikes, "spelling"),
    "shift: empty cells": planted(gaps_shift, "split_shift"),
    "prepared on all rows, then rounded": planted(rounded_after, "preprocessing"),
    "persons on both sides: other names": planted(files_of_persons, "group_overlap"),
    "groups by day of birth": Planted(treated_unlike("born"), "fairness", PARITY, "fairness.above_limit"),
    "a crossing of three": Planted(treated_unlike("three"), "fairness", {"fairness.demographic_parity_difference": "<= 0.2"}, "fairness.above_limit"),
    "thresholds by group": Planted(treated_unlike("thresholds"), "fairness", PARITY, "fairness.above_limit"),
    "quotas within what is asked at once": Planted(treated_unlike("quotas"), "fairness", PARITY, "accuracy.fickle"),
    "probabilities cancel in each column": Planted(
        crossing("calibration"), "calibration", {"calibration.worst_slice_error": "<= 0.08"}, "calibration.above_limit"
    ),
    "coverage cancels in each column": Planted(crossing("conformal"), "conformal", {"conformal.worst_slice_coverage": ">= 0.85"}, "conformal.below_limit"),
    "calibrated on nearly the test rows": Planted(calibrated_on_nearly_test, "conformal", {"conformal.coverage": ">= 0.85"}, "conformal.shared_rows"),
    "weak on late years": Planted(weak("years"), "slices", WORST, "slice.below_limit"),
    "weak on another script": Planted(weak("script"), "slices", WORST, "slice.below_limit"),
}
