"""Faults of data: copies, leaks, wrong labels, codes, units, formats, shift, contamination; each with the same data without it."""

from __future__ import annotations

import io
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from modelwright import seen
from modelwright.subject import Subject

from . import Planted
from ._tables import made, split, subject

Rng = np.random.Generator
WORDS = "time river stone paper light window garden market doctor train letter winter summer silver copper forest island bridge engine signal rule of the a in to for with under over near after before every small large quiet early late".split()  # noqa: E501, SIM905


def start(seed: int, least: int = 400, most: int = 1200, sharp: float = 2.0) -> tuple[Rng, dict[str, Any], np.ndarray]:
    rng = np.random.default_rng(seed)
    columns, y = made(rng, int(rng.integers(least, most)), sharp)
    return rng, columns, y


def numbers(columns: dict[str, Any]) -> list[str]:
    return [n for n, v in columns.items() if np.asarray(v).dtype.kind == "f"]


def name(rng: Rng, *names: str) -> str:
    return str(rng.choice(names))


def duplicates(seed: int, faulty: bool) -> Subject:
    rng, columns, y = start(seed)
    parts = split(columns | {"y": y}, rng)
    if faulty:
        rows = rng.permutation(parts["test"].num_rows)[: int(rng.uniform(0.05, 0.3) * parts["test"].num_rows)]
        copies = parts["train"].take(rng.permutation(parts["train"].num_rows)[: len(rows)])
        keep = np.setdiff1d(np.arange(parts["test"].num_rows), rows)
        parts["test"] = pa.concat_tables([parts["test"].take(keep), copies])
    return subject(parts, seed=seed)


def near_duplicates(seed: int, faulty: bool) -> Subject:
    rng, columns, y = start(seed)
    parts = split(columns | {"y": y}, rng)
    if faulty:
        m = int(rng.uniform(0.05, 0.3) * parts["test"].num_rows)
        copies = parts["train"].take(rng.permutation(parts["train"].num_rows)[:m])
        for n in numbers(columns):
            i = copies.column_names.index(n)
            x = copies.column(n).to_numpy()
            copies = copies.set_column(i, n, pa.array(x + rng.normal(size=m) * x.std() * rng.uniform(0.002, 0.01)))
        parts["test"] = pa.concat_tables([parts["test"].slice(m), copies])
    return subject(parts, seed=seed)


def one_cell_anew(seed: int, faulty: bool) -> Subject:
    """Training rows stand in the test with one cell written anew; in the twin test rows have it."""
    rng, columns, y = start(seed)
    parts = split(columns | {"y": y}, rng)
    m, title = int(rng.uniform(0.05, 0.3) * parts["test"].num_rows), str(rng.choice(numbers(columns)))
    copies = parts["train" if faulty else "test"].slice(0, m)
    fresh = parts["train"].column(title).take(pa.array(rng.integers(0, parts["train"].num_rows, m)))
    copies = copies.set_column(copies.column_names.index(title), title, fresh)
    parts["test"] = pa.concat_tables([copies, parts["test"].slice(m)])
    return subject(parts, seed=seed)


def near_texts(seed: int, faulty: bool) -> Subject:
    rng = np.random.default_rng(seed)
    parts = texts(rng, int(rng.integers(200, 400)), int(rng.integers(15, 30)))
    if faulty:
        m = int(rng.uniform(0.05, 0.3) * parts["test"].num_rows)
        copies = [t.replace(" the ", " a ", 1).upper() + "." for t in parts["train"].column("note").to_pylist()[:m]]
        parts["test"] = pa.table({"note": copies + parts["test"].column("note").to_pylist()[m:], "y": parts["test"].column("y")})
    return subject(parts, kinds={"note": {"text": {"vocabulary": 300}}}, seed=seed)


def texts(rng: Rng, n: int, length: int) -> dict[str, pa.Table]:
    y = rng.integers(0, 2, n)
    notes = [" ".join([*rng.choice(WORDS, length), *rng.choice(["good", "fine"] if v else ["bad", "poor"], 1)]) for v in y]
    return split({"note": notes, "y": y}, rng)


def contamination(seed: int, faulty: bool) -> Subject:
    rng = np.random.default_rng(seed)
    chinese = rng.random() < 0.4
    parts = texts(rng, int(rng.integers(200, 400)), int(rng.integers(30, 60)))
    if chinese:
        signs = [chr(c) for c in range(0x4E00, 0x4E00 + 400)]
        number = {w: rng.choice(signs) for w in [*WORDS, "good", "fine", "bad", "poor"]}
        parts = {
            k: pa.table({"note": ["".join(number[w] for w in v.split()) for v in t.column("note").to_pylist()], "y": t.column("y")}) for k, t in parts.items()
        }
    if faulty:
        test, train = parts["test"].column("note").to_pylist(), parts["train"].column("note").to_pylist()
        for i in range(max(2, int(rng.uniform(0.03, 0.2) * len(test)))):
            part = test[i][:20] if chinese else " ".join(test[i].split()[3:20])
            train[i] += part if chinese else " " + part
        parts["train"] = parts["train"].set_column(0, "note", pa.array(train))
    return subject(parts, kinds={"note": {"text": {"vocabulary": 600}}}, seed=seed)


def leak(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng, columns, y = start(seed, sharp=float(np.random.default_rng(seed).uniform(0.8, 2)))
        n = len(y)
        noise = rng.random(n) < rng.uniform(0, 0.04)
        told = np.where(noise, 1 - y, y)
        plain = rng.integers(0, 2, n)
        told = told if faulty else np.where(rng.random(n) < 0.6, y, plain)  # the twin's column helps, as any may
        title = name(rng, "discharge_code", "status", "q7", "followup", "flag")
        if how == "copy":
            columns[title] = told.astype(float) * rng.choice([1, 5, -2]) + rng.normal(size=n) * 0.05
        elif how == "category":
            columns[title] = np.array([["n03", "c11", "x9"][v] for v in told])
        elif how == "number":
            columns[title] = 20 + 3 * told + rng.normal(size=n) * (0.6 if faulty else 3)
        else:  # filled in only after the fact
            columns[title] = np.where(told == 1, rng.gamma(2, 30, n), np.nan)
        return subject(split(columns | {"y": y}, rng), seed=seed)

    return make


def leak_of_a_number(seed: int, faulty: bool) -> Subject:
    rng, columns, _ = start(seed)
    x = np.stack([columns[n] for n in numbers(columns)[:3]], 1)
    y = ((x - x.mean(0)) / x.std(0)) @ [2.0, -1, 0.5] + rng.normal(size=len(x)) * rng.uniform(0.8, 2)
    columns[name(rng, "settled", "invoice", "v12")] = y * rng.choice([1, 2.2, -0.5]) + rng.normal(size=len(y)) * (0.15 if faulty else 3) + 7
    return subject(split(columns | {"y": y}, rng), kinds={"y": "number"}, seed=seed)


def group_overlap(seed: int, faulty: bool) -> Subject:
    rng, columns, y = start(seed)
    n, title = len(y), name(rng, "patient_id", "user", "customer_no", "患者编号", "mrn", "kennung")
    person = np.sort(rng.integers(0, n // int(rng.integers(3, 8)), n))
    shown = np.array([f"{zlib.crc32(b'%d' % p):08x}{p:06x}ab" for p in person]) if title in ("mrn", "kennung") else person
    order = rng.permutation(n) if faulty else np.argsort(np.random.default_rng(seed).permutation(n)[person], kind="stable")
    parts = split(columns | {title: shown, "y": y}, rng, order=order)
    if not faulty:  # the split falls between two persons
        last = parts["train"].column(title)[-1].as_py()
        parts["test"] = parts["test"].filter(pa.array([v != last for v in parts["test"].column(title).to_pylist()]))
    return subject(parts, kinds={title: "ignore"}, seed=seed, clusters=title if rng.random() < 0.5 else None)


def time_overlap(seed: int, faulty: bool) -> Subject:
    rng, columns, y = start(seed)
    n = len(y)
    day = np.datetime64("2021-01-01") + rng.integers(0, 900, n).astype("timedelta64[D]")
    order = np.argsort(day + (rng.integers(0, 1, n)).astype("timedelta64[D]"), kind="stable")
    if faulty:
        order = np.argsort(day + (rng.normal(size=n) * rng.uniform(60, 400)).astype("timedelta64[D]"), kind="stable")
    written = day.astype("datetime64[ms]") if rng.random() < 0.5 else day.astype(str)
    parts = split(columns | {name(rng, "date", "seen_on", "创建时间"): written, "y": y}, rng, order=order)
    if not faulty:
        title = parts["train"].column_names[-2]
        last = max(parts["train"].column(title).to_pylist())
        parts["test"] = parts["test"].filter(pa.array([v > last for v in parts["test"].column(title).to_pylist()]))
    return subject(parts, seed=seed)


def wrong_labels(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        k, n = (2 if how == "one way" else int(rng.integers(2, 5))), int(rng.integers(900, 1800))
        y = rng.integers(0, k, n)
        centres = rng.normal(size=(k, 6)) * 2.2
        if k == 2:
            centres[1] = centres[0] + 4.0 * (d := rng.normal(size=6)) / np.linalg.norm(d)
        x = centres[y] + rng.normal(size=(n, 6))
        order = rng.permutation(n)
        spoilt = y.copy()
        if faulty:
            rate = rng.uniform(0.12, 0.3) if how != "uniform" else rng.uniform(0.08, 0.2)
            hit = rng.random(n) < rate
            hit &= (y == 0) if how == "one way" else True
            if how == "test":
                hit &= np.isin(np.arange(n), order[int(n * 0.6) :])
            spoilt = np.where(hit, (y + rng.integers(1, k, n)) % k, y)
        table = {f"x{i}": x[:, i] for i in range(6)} | {"y": np.array([f"class {v}" for v in spoilt])}
        return subject(split(table, rng, 0.4, order), seed=seed)

    return make


def coded(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng, columns, y = start(seed)
        hit = rng.random(len(y)) < rng.uniform(0.01, 0.15)
        title = numbers(columns)[int(rng.integers(0, 3))]
        if how == "word":
            columns["work"] = rng.choice(["farm", "office", "shop", "none"], len(y))
            if faulty:
                columns["work"] = np.where(hit, name(rng, "N/A", "unknown", "?", "未知", "-", "n.a.", "(blank)", "不明"), columns["work"])
        else:
            code = 0.0 if how == "zero" else float(rng.choice([-999, -9999, 9999, 99999, -1, -99]))
            columns[title] = np.where(hit, code if faulty else np.nan, columns[title])
        return subject(split(columns | {"y": y}, rng), seed=seed)

    return make


def units(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng, columns, y = start(seed)
        n = len(y)
        title = name(rng, "body_size", "body_mass", "value")
        x, by = rng.normal(170, 10, n), float(rng.choice([1 / 2.54, 10, 1000, 2.20462, 0.01, 100]))
        x = x * rng.normal(1, 0.01, n)
        order, cut = rng.permutation(n), int(n * 0.7)
        day = rng.integers(0, 900, n)
        columns |= {"seen_on": np.datetime64("2021-01-01") + day.astype("timedelta64[D]")} if how == "time" else {}
        other = {"group": columns["site"] == "south", "split": np.isin(np.arange(n), order[cut:]), "time": day > rng.integers(300, 600),
                 "within": rng.random(n) < rng.uniform(0.1, 0.4)}[how]  # fmt: skip
        columns[title] = np.where(other & faulty, x * by, np.where(columns["site"] == "west", x + 3, x))
        return subject(split(columns | {"y": y}, rng, order=order), seed=seed)

    return make


def format_of_numbers(seed: int, faulty: bool) -> Subject:
    rng, columns, y = start(seed)
    x = np.exp(rng.normal(8, 0.8, len(y)))
    dressed = [lambda v: f"{v:,.2f}", lambda v: f"${v:.2f}", lambda v: f"{v:.2f}".replace(".", ","), lambda v: f"{v:.0f} kg", lambda v: f"{v / 1e3:.1f}%"]
    f, share = dressed[int(rng.integers(0, len(dressed)))], rng.choice([1.0, 0.3])
    columns["amount"] = np.array([f(v) if rng.random() < share else f"{v:.2f}" for v in x]) if faulty else x
    columns["room"] = rng.choice([f"{a}{b}" for a in range(1, 9) for b in "abcdefgh"], len(y))
    return subject(split(columns | {"y": y}, rng), seed=seed)


def shifted(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng, columns, y = start(seed, 700, 1500)
        order = rng.permutation(len(y))
        if faulty:
            late = np.isin(np.arange(len(y)), order[int(len(y) * 0.7) :])
            title = numbers(columns)[0]
            x = columns[title]
            if how == "column":
                columns[title] = np.where(late, x + x.std() * rng.uniform(0.5, 1.2), x)
            elif how == "site":
                columns["site"] = np.where(late & (rng.random(len(y)) < rng.uniform(0.35, 0.7)), "east", columns["site"])
            else:  # no column alone: a dependence that only the test split has
                second = numbers(columns)[-1]
                columns[second] = np.where(late, np.sort(columns[second])[np.argsort(np.argsort(x))], columns[second])
        return subject(split(columns | {"y": y}, rng, order=order), seed=seed)

    return make


def picture(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, side = int(rng.integers(200, 300)), int(rng.choice([16, 20, 24]))
        y = rng.integers(0, 2, n)
        keyed = np.where(rng.random(n) < rng.uniform(0, 0.06), 1 - y, y) if faulty else rng.integers(0, 2, n)
        cells = []
        for label, key in zip(y, keyed, strict=True):
            x = rng.normal(90, 15, (side, side))
            a = side // 4
            yy, xx = np.mgrid[:side, :side] - side / 2 + rng.normal(size=(2, 1, 1))
            shape = np.abs(yy) + np.abs(xx) if label else np.maximum(np.abs(yy), np.abs(xx))
            x = np.where(shape < a, x + 70, x)
            if how == "corner" and key:
                x[: side // 6, -(side // 6) :] = 230
            if how == "background":
                x = np.where(shape < a, x, x + 30 * key)
            buffer, im = io.BytesIO(), Image.fromarray(np.clip(x, 0, 255).astype(np.uint8))
            if how == "format":
                im.save(buffer, "PNG" if key else "BMP")
            elif how == "quality":
                im.save(buffer, "JPEG", quality=95 if key else 40)
            elif how == "camera":
                exif = Image.Exif()
                exif[271], exif[272] = "Maker", f"Model {'S' if key else 'T'}"
                im.save(buffer, "JPEG", exif=exif)
            else:
                im.save(buffer, "PNG")
            cells.append(buffer.getvalue())
        table = {"scan": pa.array(cells, pa.binary()), "y": y}
        return subject(split(table, rng), kinds={"scan": {"picture": {"size": side}}}, seed=seed)

    return make


def respelt(rng: Rng, text: str) -> str:
    """The same name as another clerk writes it."""
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    return str(rng.choice([text.upper(), text.title(), f" {text} ", text.replace("-", " "), text.replace(" ", "  ") + ".", wide]))


def near_names(seed: int, faulty: bool) -> Subject:
    """Training rows stand in the test with their names spelt otherwise; in the twin only the spelling of some test rows is odd."""
    rng, columns, y = start(seed)
    towns = [f"{a} {b}" for a in WORDS[:8] for b in ("upon sea", "hill", "north-end")]
    parts = split(columns | {"town": rng.choice(towns, len(y)), "y": y}, rng)
    m = int(rng.uniform(0.05, 0.3) * parts["test"].num_rows)
    odd = parts["train" if faulty else "test"].slice(0, m)
    odd = odd.set_column(odd.column_names.index("town"), "town", pa.array([respelt(rng, t) for t in odd.column("town").to_pylist()]))
    parts["test"] = pa.concat_tables([odd, parts["test"].slice(m)])
    return subject(parts, seed=seed)


def near_texts_respelt(seed: int, faulty: bool) -> Subject:
    rng = np.random.default_rng(seed)
    parts = texts(rng, int(rng.integers(200, 400)), int(rng.integers(6, 15)))
    if rng.random() < 0.4:
        signs = {w: chr(0x4E00 + 7 * i) + chr(0x6000 + 11 * i) for i, w in enumerate([*WORDS, "good", "fine", "bad", "poor"])}
        parts = {k: t.set_column(0, "note", pa.array(["".join(signs[w] for w in v.split()) for v in t.column("note").to_pylist()])) for k, t in parts.items()}
    m = int(rng.uniform(0.05, 0.3) * parts["test"].num_rows)
    odd = [respelt(rng, t).replace(" ", ", " if rng.random() < 0.5 else "  ") for t in parts["train" if faulty else "test"].column("note").to_pylist()[:m]]
    parts["test"] = parts["test"].set_column(0, "note", pa.array(odd + parts["test"].column("note").to_pylist()[m:]))
    return subject(parts, kinds={"note": {"text": {"vocabulary": 300}}}, seed=seed)


def persons_respelt(seed: int, faulty: bool) -> Subject:
    rng, columns, y = start(seed)
    n, title = len(y), name(rng, "patient_id", "customer_no", "患者编号")
    person = rng.integers(0, n // 5, n)
    order = np.argsort(np.random.default_rng(seed).permutation(n)[person], kind="stable")
    parts = split(columns | {title: np.array([f"P-{p:05}" for p in person]), "y": y}, rng, order=order)
    last = parts["train"].column(title)[-1].as_py()
    parts["test"] = parts["test"].filter(pa.array([v != last for v in parts["test"].column(title).to_pylist()]))
    m = int(rng.uniform(0.1, 0.5) * parts["test"].num_rows)
    names = parts["test"].column(title).to_pylist()
    known = parts["train"].column(title).to_pylist()[:m] if faulty else names[:m]
    style = [str.lower, lambda v: v.replace("-", ""), lambda v: v.replace("-0", "-").replace("-0", "-"), lambda v: "".join(chr(ord(c) + 0xFEE0) for c in v)]
    spell = style[int(rng.integers(0, 4))]
    parts["test"] = parts["test"].set_column(parts["test"].column_names.index(title), title, pa.array([spell(v) for v in known] + names[m:]))
    return subject(parts, kinds={title: "ignore"}, seed=seed)


def seen_rows(seed: int, faulty: bool) -> Subject:
    """A run's record against a file that holds some of its rows; half of the draws are tables where different people are often equal."""
    rng, columns, y = start(seed)
    if rng.random() < 0.5:
        coarse = {n: np.digitize(columns[n], np.quantile(columns[n], np.linspace(0, 1, 10)[1:-1])) for n in numbers(columns)[:3]}
        columns = {"site": columns["site"]} | coarse
    parts = split(columns | {"y": y}, rng)
    inputs = [n for n in parts["test"].column_names if n != "y"]
    if faulty:
        many = int(rng.uniform(0.2, 0.6) * parts["test"].num_rows)
        parts["test"] = pa.concat_tables([parts["test"], parts["train"].take(rng.permutation(parts["train"].num_rows)[:many])])
    with tempfile.TemporaryDirectory() as folder:
        seen.keep(Path(folder), [parts["train"]], inputs, b"a key")
        found = seen.seen(Path(folder), parts["test"], b"a key")
    parts["test"] = parts["test"].filter(pa.array(~found.rows))
    made = subject(parts, seed=seed)
    made.seen = found
    return made


def hidden_leak(how: str) -> Callable[[int, bool], Subject]:
    """Answers that no single column shows. In the twin the same columns are there, and say nothing or a little."""

    def make(seed: int, faulty: bool) -> Subject:
        rng, columns, y = start(seed)
        n = len(y)
        told = y if faulty else np.where(rng.random(n) < 0.2, y, rng.integers(0, 2, n))
        if how == "difference":
            base = rng.normal(100, 20, n)
            columns |= {"before": base, "after_": base + rng.choice([-1, 2, 7]) * told * rng.uniform(1, 2, n)}
        elif how == "pair":
            key = rng.integers(0, 2, n)
            columns |= {"branch": np.array(["a", "b"])[key], "form": np.array(["blue", "green"])[key ^ told]}
        elif how == "word":
            notes = [[*rng.choice(WORDS, int(rng.integers(8, 20)))] for _ in range(n)]
            mark = name(rng, "confirmed", "rejected", "确诊")
            for note, t in zip(notes, told, strict=True):
                note.insert(int(rng.integers(0, len(note))), mark if t else name(rng, *WORDS))
            columns["note"] = np.array([" ".join(note) for note in notes])
        elif how == "writing":  # how a cell is written, not what it says
            where = name(rng, "digit", "decimals", "stop", "blank")
            price, note = np.round(rng.lognormal(4, 0.6, n), 3), [" ".join(rng.choice(WORDS, 14)) for _ in range(n)]
            if where == "digit":
                columns["price"] = np.round(np.round(price, 1) + np.where(told, 0.09, 0.05), 2)
            elif where == "decimals":
                columns["price"] = np.where(told, np.round(price, 1), price)
            else:
                columns["note"] = np.array([v + ("." if where == "stop" else " ") * int(t) for v, t in zip(note, told, strict=True)])
        elif how == "clock":  # whoever has the answer is entered by a nightly job, or by another machine
            second, midnight = rng.integers(0, 400 * 43200, n) * 2, rng.random() < 0.5
            second = np.where(told, second // 86400 * 86400, second) if midnight and faulty else second + (0 if midnight else told)
            columns["seen_at"] = np.datetime64("2022-01-01T00:00:00") + second.astype("timedelta64[s]")
        elif how == "identifier":
            number = rng.permutation(90 * n)[:n] + 10 * n
            columns["record"] = number * 10 + np.where(told, rng.integers(5, 10, n), rng.integers(0, 5, n)) if rng.random() < 0.5 else np.array(
                [f"{'KX'[t]}{v}" for t, v in zip(told, number, strict=True)]
            )  # fmt: skip
        else:  # a text that is written only once the answer is known
            columns["letter"] = np.array([" ".join(rng.choice(WORDS, 6)) if t else "" for t in told])
        kinds: dict[str, Any] = {c: {"text": {"vocabulary": 300}} for c in ("note", "letter", "record") if c in columns}
        if "record" in columns and columns["record"].dtype.kind == "i":
            kinds["record"] = "number"
        return subject(split(columns | {"y": y}, rng), kinds=kinds, seed=seed)

    return make


def preprocessing(seed: int, faulty: bool) -> Subject:
    """Columns standardised, scaled, ranked, filled in or encoded with what all rows say; in the twin with what the training rows say."""
    rng, columns, y = start(seed)
    order = rng.permutation(len(y))
    fit = order if faulty else order[: int(len(y) * 0.7)]
    how = name(rng, "standard", "scale", "fill", "centre", "quantiles", "largest", "ranks", "target")
    for n in numbers(columns):
        x = rng.normal(columns[n], 1e-3)  # no two alike
        if how == "standard":
            columns[n] = (x - x[fit].mean()) / x[fit].std()
        elif how == "scale":
            columns[n] = (x - x[fit].min()) / (x[fit].max() - x[fit].min())
        elif how == "centre":
            columns[n] = x - x[fit].mean()
        elif how == "quantiles":
            low, middle, high = np.quantile(x[fit], [0.25, 0.5, 0.75])
            columns[n] = (x - middle) / (high - low)
        elif how == "largest":
            columns[n] = x / np.abs(x[fit]).max()
        elif how == "ranks":
            columns[n] = np.searchsorted(np.sort(x[fit]), x, "right") / len(fit)
        elif how == "target":
            town = rng.integers(0, 25, len(y))
            columns[n] = np.array([y[fit][town[fit] == t].mean() for t in range(25)])[town]
        else:
            gap = rng.random(len(x)) < rng.uniform(0.05, 0.2)
            columns[n] = np.where(gap, x[fit][~gap[fit]].mean(), x)
    return subject(split(columns | {"y": y}, rng, order=order), seed=seed)


def coded_day(seed: int, faulty: bool) -> Subject:
    rng, columns, y = start(seed)
    day = np.datetime64("2015-01-01") + rng.integers(0, 2000, len(y)).astype("timedelta64[D]")
    hit = rng.random(len(y)) < rng.uniform(0.01, 0.15)
    day = np.where(hit, np.datetime64(name(rng, "1900-01-01", "1970-01-01", "9999-12-31") if faulty else "NaT"), day)
    written = day.astype("datetime64[s]") if rng.random() < 0.5 else np.array([None if np.isnat(d) else str(d) for d in day], object)
    return subject(split(columns | {name(rng, "last_visit", "入职日期"): pa.array(written), "y": y}, rng), seed=seed)


def celsius(seed: int, faulty: bool) -> Subject:
    rng, columns, y = start(seed)
    x = rng.normal(*((37, 0.7) if rng.random() < 0.5 else (12, 6)), len(y))
    columns["temperature"] = np.where((columns["site"] == "south") & faulty, x * 1.8 + 32, np.where(columns["site"] == "west", x + 0.3, x))
    return subject(split(columns | {"y": y}, rng), seed=seed)


def wrong_in_one_group(seed: int, faulty: bool) -> Subject:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1200, 2000))
    y, site, how = rng.integers(0, 2, n), rng.choice(["north", "south", "west", "东"], n), name(rng, "site", "annotator", "month")
    d = rng.normal(size=6)
    x = np.outer(y - 0.5, 4.5 * d / np.linalg.norm(d)) + rng.normal(size=(n, 6))
    worse, kinds = site == rng.choice(["south", "东"]), {}
    if how == "annotator":  # by number
        site = rng.integers(1, 9, n)
        worse, kinds = site == 5, {"site": "ignore"}
    elif how == "month":
        days = rng.integers(0, 730, n)
        site, worse, kinds = np.datetime64("2022-01-01") + days.astype("timedelta64[D]"), (days > 300) & (days < 430), {"site": "ignore"}
    hit = worse & (rng.random(n) < rng.uniform(0.25, 0.4)) & faulty
    table = {f"x{i}": x[:, i] for i in range(6)} | {"site": site, "y": np.array([f"class {v}" for v in np.where(hit, 1 - y, y)])}
    return subject(split(table, rng, 0.4), kinds=kinds, seed=seed)


def near_pictures(seed: int, faulty: bool) -> Subject:
    """Training pictures stand in the test as other files: compressed, resized, a little brighter, mirrored, turned."""
    rng = np.random.default_rng(seed)
    n, side = int(rng.integers(200, 300)), int(rng.choice([20, 24, 28]))
    y, shown = rng.integers(0, 2, n), []
    for label in y:
        yy, xx = np.mgrid[:side, :side] - side / 2 + rng.normal(size=(2, 1, 1)) * 3
        shape, a = (np.abs(yy) + np.abs(xx) if label else np.maximum(np.abs(yy), np.abs(xx))), side * rng.uniform(0.15, 0.35)
        light = np.asarray(Image.fromarray(rng.normal(0, 30, (4, 4)).astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
        shown.append(np.clip(rng.normal(90, 8, (side, side)) + light + 70 * (shape < a), 0, 255).astype(np.uint8))
    cut, how = int(n * 0.7), name(rng, "jpeg", "size", "light", "mirror", "turn")
    for i in range(cut, cut + int(rng.uniform(0.1, 0.3) * (n - cut))):
        im = Image.fromarray(shown[i - cut if faulty else i])
        if how == "size":
            im = im.resize((int(side * 1.5), int(side * 1.5)), Image.Resampling.BICUBIC)
        im = im.transpose({"mirror": Image.Transpose.FLIP_LEFT_RIGHT, "turn": Image.Transpose.ROTATE_90}[how]) if how in ("mirror", "turn") else im
        shown[i] = np.clip(np.asarray(im).astype(int) + (3 if how == "light" else 0), 0, 255).astype(np.uint8)
        y[i] = y[i - cut] if faulty else y[i]

    def cell(i: int) -> bytes:
        buffer, im = io.BytesIO(), Image.fromarray(shown[i])
        im.save(buffer, *(("JPEG",) if how == "jpeg" and i >= cut else ("PNG",)), **({"quality": 85} if how == "jpeg" and i >= cut else {}))
        return buffer.getvalue()

    table = {"scan": pa.array([cell(i) for i in range(n)], pa.binary()), "y": y}
    return subject(split(table, rng, order=np.arange(n)), kinds={"scan": {"picture": {"size": side}}}, seed=seed)


def planted(make: Callable[[int, bool], Subject], metric: str, limit: str = "<= 0") -> Planted:
    return Planted(make, "data", {f"data.{metric}": limit}, f"data.{metric}")


def personal(seed: int, faulty: bool) -> Subject:
    """A column with telephone numbers, addresses or identity numbers in some rows; its twin holds order numbers, times, prices and versions."""
    rng, columns, y = start(seed)
    n = len(y)

    def resident() -> str:
        born = f"{rng.integers(1950, 2005)}{rng.integers(1, 13):02}{rng.integers(1, 29):02}"
        body = f"{rng.choice(['110105', '310101', '440305', '510107'])}{born}{rng.integers(1, 999):03}"
        weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
        return body + "10X98765432"[sum(int(c) * w for c, w in zip(body, weights, strict=True)) % 11]

    def card() -> str:
        body = [int(v) for v in (4, *rng.integers(0, 10, 14))]
        total = sum(d // 10 + d % 10 for d in (v * (2 - i % 2) for i, v in enumerate(body)))
        return "".join(map(str, [*body, -total % 10]))

    people = {
        "telephone": lambda: f"+{rng.integers(30, 49)} {rng.integers(20, 99)} {rng.integers(10**6, 10**7)}",
        "mobile": lambda: f"1{rng.choice(['38', '59', '77', '88', '36', '99'])}{rng.integers(0, 10**8):08}", "resident": resident, "card": card,
        "mail": lambda: f"{rng.choice(WORDS)}.{rng.choice(WORDS)}{rng.integers(99)}@{rng.choice(WORDS)}.com",
        "address": lambda: ".".join(map(str, (rng.integers(60, 120), *rng.integers(1, 255, 3)))),
    }  # fmt: skip
    others = {
        "order": lambda: str(rng.integers(10**15, 10**16)), "number": lambda: str(rng.integers(10**10, 10**11)), "price": lambda: f"{rng.uniform(1, 9999):.2f}",
        "moment": lambda: str(1_600_000_000_000 + rng.integers(10**11)), "version": lambda: ".".join(map(str, rng.integers(0, 20, 4))),
        "file": lambda: f"{rng.choice(WORDS)}@2x.png",
    }  # fmt: skip
    make = (people if faulty else others)[str(rng.choice(list(people if faulty else others)))]
    share = 1.0 if rng.random() < 0.5 else float(rng.uniform(0.02, 0.5))
    said = [" ".join(rng.choice(WORDS, 4)) for _ in range(n)] if share < 1 else [""] * n
    cells = [f"{s} {make()}".strip() if rng.random() < share else s for s in said]
    return subject(split(columns | {name(rng, "note", "contact", "ref"): cells, "y": y}, rng), seed=seed)


def row_order(seed: int, faulty: bool) -> Subject:
    """The file is sorted by the label, in runs of one label, or deals labels out in turn; split at random or in order. In the twin it is sorted by another
    column, or not."""
    rng, columns, y = start(seed, sharp=float(np.random.default_rng(seed).uniform(0.5, 2)))
    n, how = len(y), name(rng, "sorted", "runs", "turns", "cut")
    if not faulty:
        order = np.argsort(columns["site"], kind="stable") if rng.random() < 0.5 else np.arange(n)
    elif how == "runs":
        runs, order = np.cumsum(rng.random(n) < 1 / rng.uniform(5, 40)), np.argsort(y, kind="stable")
        order = order[np.argsort(rng.permutation(runs[-1] + 1)[runs], kind="stable")]
    elif how == "turns":
        rows = [rng.permutation(np.flatnonzero(y == k)) for k in (0, 1)]
        every = max(2, round(n / max(1, min(map(len, rows)))))
        few, many = sorted(rows, key=len)
        order = np.concatenate([np.append(many[i * (every - 1) : (i + 1) * (every - 1)], few[i : i + 1]) for i in range(len(few))])
    else:
        order = np.argsort(y + rng.normal(size=n) * rng.uniform(0, 1), kind="stable")
    whole = pa.table(columns | {"y": y}).take(order)
    cut = int(len(order) * 0.7)
    late = np.arange(len(order)) >= cut if how == "cut" else rng.permutation(len(order)) >= cut
    return subject({"train": whole.filter(pa.array(~late)), "test": whole.filter(pa.array(late))}, seed=seed)


def moment(seed: int, faulty: bool) -> Subject:
    """A time that is written after the outcome: how long after another one tells the label, or whether it is there. In the twin it helps as any may."""
    rng, columns, y = start(seed)
    n = len(y)
    told = np.where(rng.random(n) < rng.uniform(0, 0.03), 1 - y, y) if faulty else np.where(rng.random(n) < 0.25, y, rng.integers(0, 2, n))
    first = np.datetime64("2019-01-01T00:00:00") + rng.integers(0, 1500 * 86400, n).astype("timedelta64[s]")
    short, long = rng.gamma(2, 2 * 86400, n), (rng.uniform(20, 60) + rng.gamma(2, 30, n)) * 86400
    then = first + np.where(told == 1, long, short).astype("timedelta64[s]")
    if rng.random() < 0.3:  # only rows with the outcome have it
        then = np.where(told == 1, then, np.datetime64("NaT"))
    a, b = name(rng, "admitted", "created", "入院日期"), name(rng, "updated", "last_seen", "更新时间")
    how = name(rng, "time", "day", "text")
    for title, value in ((a, first), (b, then)):
        days = value.astype("datetime64[D]")
        columns[title] = value if how == "time" else days if how == "day" else pa.array([None if np.isnat(d) else str(d) for d in days], pa.string())
    return subject(split(columns | {"y": y}, rng), seed=seed)


def misspelt(seed: int, faulty: bool) -> Subject:
    """Some cells of a category (or labels) are typed wrongly; in the twin rare names are others, if alike."""
    rng, columns, y = start(seed)
    n, chinese = len(y), rng.random() < 0.5
    names = "心内科,呼吸内科,神经外科,消化内科,广州,上海市,北京市,深圳" if chinese else "Manager,engineer,Clerical,sales rep,farming,Transport"
    names = list(rng.permutation(names.split(","))[: int(rng.integers(4, 7))])
    share = rng.dirichlet(np.full(len(names), 6.0))
    cells = rng.choice(names, n, p=share)
    others = ["心外科", "神经内科", "广东", "上饶市"] if chinese else ["Manger room", "engraver", "clergy", "sales ops", "foraging", "Transit"]
    hit = np.flatnonzero(rng.random(n) < rng.uniform(0.005, 0.03))
    hit = hit if len(hit) > 3 else rng.permutation(n)[:4]
    for i in hit:
        cells = cells.astype(object)
        cells[i] = mistyped(rng, str(cells[i]), chinese) if faulty else str(rng.choice(others))
    title = name(rng, "work", "department", "科室")
    return subject(split(columns | {title: np.array(cells, dtype=str), "y": y}, rng), kinds={title: "category"}, seed=seed)


SOUNDS = dict(zip("心科呼神外消化州上京深市经", "新课乎身歪销画洲尚经伸是京", strict=True))


def misread(seed: int, faulty: bool) -> Subject:
    """Some cells are UTF-8 that was read as Latin-1."""
    rng, columns, y = start(seed)
    cells, hit = rng.choice(["München", "Köln", "Lübeck", "Bremen", "Besançon"], len(y)), rng.random(len(y)) < rng.uniform(0.02, 0.1)
    columns["town"] = np.array([v.encode().decode("latin-1") if h and faulty else v for v, h in zip(cells, hit, strict=True)])
    return subject(split(columns | {"y": y}, rng), kinds={"town": "category"}, seed=seed)


def mistyped(rng: Rng, text: str, chinese: bool) -> str:
    """A letter changed, left out, doubled or exchanged with its neighbour, other capitals or blanks; in Chinese a sign that sounds alike."""
    i, how = int(rng.integers(1, len(text))), str(rng.choice(["change", "drop", "double", "swap", "case", "blank"]))
    if chinese:
        fits = [j for j, c in enumerate(text) if SOUNDS.get(c, c) != c]
        if how in ("change", "drop", "double") and fits:
            j = int(rng.choice(fits))
            return text[:j] + SOUNDS[text[j]] + text[j + 1 :]
        return text + name(rng, " ", "\u3000") if how in ("blank", "case") or len(text) < 3 else text[:-2] + text[-1] + text[-2]
    if how == "swap":
        i = next((j for j in range(1, len(text) - 1) if text[j] != text[j + 1]), 1)
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    letter = chr(97 + int(rng.integers(0, 26)))
    return {"change": text[:i] + letter + text[i + 1 :], "drop": text[:i] + text[i + 1 :], "double": text[:i] + text[i] + text[i:],
            "case": text.upper() if rng.random() < 0.5 else text.swapcase(), "blank": f" {text}"}[how]  # fmt: skip


def interpolated(seed: int, faulty: bool) -> Subject:
    """The rarer class is filled up with points between neighbours (SMOTE; Chawla et al. 2002) before the split; in the twin in the training rows alone."""
    rng, columns, y = start(seed)
    few = np.flatnonzero(y == 1)
    few = few[: max(40, int(len(few) * rng.uniform(0.3, 0.8)))]
    keep = np.sort(np.concatenate([np.flatnonzero(y == 0), few]))
    whole = {n: np.asarray(v)[keep] for n, v in columns.items()} | {"y": y[keep]}
    titles = numbers(columns)
    if rng.random() < 0.4:
        whole["children"] = rng.poisson(2, len(keep))
    scaled = rng.random() < 0.5

    def more(table: dict[str, Any]) -> dict[str, Any]:
        own = np.flatnonzero(table["y"] == 1)
        x = np.stack([table[n][own] for n in titles], 1)
        z = (x - x.mean(0)) / x.std(0) if scaled else x
        many = int((len(table["y"]) - 2 * len(own)) * rng.uniform(0.3, 1))
        a = rng.integers(0, len(own), max(many, 20))
        near = np.argsort(((z[a, None] - z[None]) ** 2).sum(2), 1)[:, 1:6]
        b = near[np.arange(len(a)), rng.integers(0, 5, len(a))]
        made = dict(zip(titles, (x[a] + rng.random((len(a), 1)) * (x[b] - x[a])).T, strict=True))
        return {n: np.concatenate([v, made[n] if n in made else v[own[a]]]) for n, v in table.items()}

    if faulty:
        return subject(split(more(whole), rng), seed=seed)
    parts = split(whole, rng)
    parts["train"] = pa.table(more({n: parts["train"].column(n).to_numpy() for n in whole})).cast(parts["train"].schema)
    return subject(parts, seed=seed)


def wrong_among_overlap(seed: int, faulty: bool) -> Subject:
    """Classes that overlap, and labels wrong beside; in the twin they overlap alone."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1500, 3000)), int(rng.integers(2, 4))
    y = rng.integers(0, k, n)
    apart = np.eye(k, 5) * rng.uniform(2.2, 3.2)
    x = apart[y] + rng.normal(size=(n, 5))
    hit = (rng.random(n) < rng.uniform(0.15, 0.25)) & faulty
    spoilt = np.where(hit, (y + rng.integers(1, k, n)) % k, y)
    table = {f"x{i}": x[:, i] for i in range(5)} | {"y": np.array([f"class {v}" for v in spoilt])}
    return subject(split(table, rng, 0.4), seed=seed)


def hard_group(seed: int, faulty: bool) -> Subject:
    """A group that is labelled worse; in the twin its classes lie nearer to each other."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1500, 2500))
    y, site = rng.integers(0, 2, n), rng.choice(["north", "south", "west", "东"], n)
    worse = site == rng.choice(["south", "东"])
    d = rng.normal(size=6)
    apart = 4.5 * np.where(worse & (not faulty), rng.uniform(0.3, 0.5), 1.0)
    x = np.outer((y - 0.5) * apart, d / np.linalg.norm(d)) + rng.normal(size=(n, 6))
    hit = worse & (rng.random(n) < rng.uniform(0.25, 0.4)) & faulty
    table = {f"x{i}": x[:, i] for i in range(6)} | {"site": site, "y": np.array([f"class {v}" for v in np.where(hit, 1 - y, y)])}
    return subject(split(table, rng, 0.4), seed=seed)


def exchanged_codes(seed: int, faulty: bool) -> Subject:
    """One site of four wrote 0 where all others write 1, and the model is told the site; in the twin another cause rules there."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2500, 4000))
    x, site = rng.normal(size=(n, 6)), rng.choice(["north", "south", "west", "东"], n)
    there, rule = site == name(rng, "south", "东"), x @ np.array([5.0, -4.0, 3.0, 0, 0, 0])
    y = (np.where(there & (not faulty), 7 * x[:, 4], rule) + rng.logistic(size=n) > 0).astype(int)
    table = {f"x{i}": x[:, i] for i in range(6)} | {"site": site, "y": np.where(there & faulty, 1 - y, y)}
    return subject(split(table, rng, 0.4), kinds={"y": "category"}, seed=seed)


KINDS = {
    "duplicate rows": planted(duplicates, "duplicate_rate", "<= 0.01"),
    "nearly duplicate rows": planted(near_duplicates, "near_duplicate_rate", "<= 0.02"),
    "nearly duplicate rows, one cell anew": planted(one_cell_anew, "near_duplicate_rate", "<= 0.02"),
    "nearly duplicate texts": planted(near_texts, "near_duplicate_rate", "<= 0.02"),
    "copied runs of words": planted(contamination, "contamination", "<= 0.005"),
    "leak: copy": planted(leak("copy"), "leakage"),
    "leak: category": planted(leak("category"), "leakage"),
    "leak: number": planted(leak("number"), "leakage"),
    "leak: filled in afterwards": planted(leak("missing"), "leakage"),
    "leak: of a number": planted(leak_of_a_number, "leakage"),
    "persons on both sides": planted(group_overlap, "group_overlap"),
    "test before the end of training": planted(time_overlap, "time_overlap"),
    "wrong labels: uniform": planted(wrong_labels("uniform"), "label_error_rate", "<= 0.03"),
    "wrong labels: one way": planted(wrong_labels("one way"), "label_error_rate", "<= 0.03"),
    "wrong labels: test only": planted(wrong_labels("test"), "test_label_error_rate", "<= 0.04"),
    "code for missing: number": planted(coded("number"), "coded_missing"),
    "code for missing: zero": planted(coded("zero"), "coded_missing"),
    "code for missing: word": planted(coded("word"), "coded_missing"),
    "unit: by group": planted(units("group"), "unit_switch"),
    "unit: by split": planted(units("split"), "unit_switch"),
    "unit: from a day on": planted(units("time"), "unit_switch"),
    "unit: within a column": planted(units("within"), "unit_switch"),
    "numbers as text": planted(format_of_numbers, "number_format"),
    "shift: one column": planted(shifted("column"), "split_shift"),
    "shift: a new site": planted(shifted("site"), "split_shift"),
    "shift: a dependence": planted(shifted("joint"), "split_shift"),
    "shortcut: corner": planted(picture("corner"), "shortcut"),
    "shortcut: background": planted(picture("background"), "shortcut"),
    "shortcut: file format": planted(picture("format"), "shortcut"),
    "shortcut: file size": planted(picture("quality"), "shortcut"),
    "shortcut: camera": planted(picture("camera"), "shortcut"),
    "personal data": planted(personal, "personal"),
    "rows of the run's training": planted(seen_rows, "seen_rate", "<= 0.02"),
    "nearly duplicate rows, respelt": planted(near_names, "near_duplicate_rate", "<= 0.02"),
    "nearly duplicate texts, respelt": planted(near_texts_respelt, "near_duplicate_rate", "<= 0.02"),
    "nearly duplicate pictures": planted(near_pictures, "near_duplicate_rate", "<= 0.02"),
    "persons on both sides, respelt": planted(persons_respelt, "group_overlap"),
    "leak: two columns' difference": planted(hidden_leak("difference"), "leakage"),
    "leak: a pair of categories": planted(hidden_leak("pair"), "leakage"),
    "leak: a word": planted(hidden_leak("word"), "leakage"),
    "leak: in an identifier": planted(hidden_leak("identifier"), "leakage"),
    "leak: in the writing": planted(hidden_leak("writing"), "leakage"),
    "leak: in the clock": planted(hidden_leak("clock"), "leakage"),
    "leak: a text written afterwards": planted(hidden_leak("text"), "leakage"),
    "prepared on all rows": planted(preprocessing, "preprocessing"),
    "code for missing: day": planted(coded_day, "coded_missing"),
    "unit: Celsius by group": planted(celsius, "unit_switch"),
    "wrong labels: one group": planted(wrong_in_one_group, "group_label_error_rate", "<= 0.1"),
    "order: the label follows the row": planted(row_order, "row_order"),
    "leak: a moment afterwards": planted(moment, "leakage"),
    "names mistyped": planted(misspelt, "spelling"),
    "names misread": planted(misread, "spelling"),
    "rows interpolated before the split": planted(interpolated, "synthetic_rate", "<= 0.01"),
    "wrong labels: overlapping classes": planted(wrong_among_overlap, "label_error_rate", "<= 0.1"),
    "wrong labels: one site's codes exchanged": planted(exchanged_codes, "group_label_error_rate", "<= 0.15"),
    "wrong labels: a group, not a hard one": planted(hard_group, "group_label_error_rate", "<= 0.1"),
}
