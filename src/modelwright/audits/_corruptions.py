"""Common corruptions at severities 1 to 5, of a table's own columns, so that any predictor can be asked: (table, severity, rng) -> table.

Pictures after Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", with strengths of
their order."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageFilter

from ..checks.columns import is_text

Corruption = Callable[[pa.Table, int, np.random.Generator], pa.Table]


def of(schema, reference: pa.Table, synonyms: dict[str, list[str]] | None = None) -> dict[str, Corruption]:
    """What can befall this schema's inputs. reference: whose ranges a table's noise stays in. synonyms: of texts, as the task declares them."""
    found: dict[str, Corruption] = {}
    numbers = [n for n, k in schema.inputs.items() if k.place == "number" and k.numbers == 1 and _is_number(reference.column(n).type)]
    cells = [n for n, k in schema.inputs.items() if k.place in ("number", "code")]
    pictures = [n for n, k in schema.inputs.items() if k.form == "picture" and not k.drawn]
    texts = [n for n, k in schema.inputs.items() if k.form == "ids" and is_text(reference.column(n))]
    if numbers:
        stats = {n: _range(reference.column(n)) for n in numbers}
        found["noise"] = lambda t, s, rng: _each(t, numbers, lambda n, c: _noise(c, *stats[n], (0.02, 0.05, 0.1, 0.2, 0.3)[s - 1], rng))
        found["rounding"] = lambda t, s, rng: _each(t, numbers, lambda n, c: _rounded(c, stats[n][2], (0.05, 0.1, 0.2, 0.5, 1.0)[s - 1]))
    if len(cells) > 1:
        found["missing"] = lambda t, s, rng: _each(t, cells, lambda n, c: _missing(c, (0.01, 0.02, 0.05, 0.1, 0.2)[s - 1], rng))
    for name, change in PICTURES.items() if pictures else ():
        found[name] = lambda t, s, rng, change=change: _each(t, pictures, lambda n, c: _picture(schema.inputs[n], c, change, s, rng))
    if texts and synonyms:
        swap = Synonyms(synonyms)
        found["synonyms"] = lambda t, s, rng: _each(t, texts, lambda n, c: _text(c, swap, s / 5, rng))
    for name, change in TEXTS.items() if texts else ():
        found[name] = lambda t, s, rng, change=change: _each(t, texts, lambda n, c: _text(c, change, (0.02, 0.05, 0.1, 0.15, 0.25)[s - 1], rng))
    return found


def _is_number(type: pa.DataType) -> bool:
    return pa.types.is_integer(type) or pa.types.is_floating(type)


def _each(table: pa.Table, names: list[str], change) -> pa.Table:
    for name in names:
        table = table.set_column(table.column_names.index(name), name, change(name, table.column(name)))
    return table


# Tables


def _range(column: pa.ChunkedArray) -> tuple[float, float, float]:
    x = pc.cast(column, pa.float64(), safe=False).to_numpy()
    x = x[np.isfinite(x)]
    return (float(x.min()), float(x.max()), float(x.std())) if len(x) else (0.0, 0.0, 0.0)


def _written(x: np.ndarray, column: pa.ChunkedArray) -> pa.Array:
    """As the column's own type; NaN where it was missing."""
    x = np.round(x) if pa.types.is_integer(column.type) else x
    return pa.array(x, pa.float64(), mask=~np.isfinite(x)).cast(column.type, safe=False)


def _noise(column, low, high, sd, share, rng) -> pa.Array:
    x = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return _written(np.clip(x + share * sd * rng.standard_normal(len(x)), low, high), column)


def _rounded(column, sd, share) -> pa.Array:
    x = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return _written(x if sd == 0 else np.round(x / (share * sd)) * share * sd, column)


def _missing(column, share, rng) -> pa.Array:
    return pc.if_else(pa.array(rng.random(len(column)) < share), pa.scalar(None, column.type), column)


# Pictures: (H, W, C) in [0, 1]


def _picture(kind, column, change, severity, rng) -> pa.Array:
    stored = kind.encode(column)
    pixels = stored["values"].transpose(0, 2, 3, 1).astype(np.float32) / 255
    out = np.stack([change(p, severity - 1, rng) for p in pixels]) if len(pixels) else pixels
    cells = [_png(p) if known else None for p, known in zip(np.clip(out, 0, 1), stored["known"], strict=True)]
    if pa.types.is_struct(column.type):
        return pa.array([None if c is None else {"bytes": c, "path": None} for c in cells])
    return pa.array(cells, pa.binary())


def _png(p: np.ndarray) -> bytes:
    """Hardly compressed: it is read once, and that is most of the time."""
    file = io.BytesIO()
    _image(p).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _image(p: np.ndarray) -> Image.Image:
    whole = np.round(p * 255).astype(np.uint8)
    return Image.fromarray(whole[:, :, 0] if whole.shape[2] == 1 else whole)


def _back(image: Image.Image, like: np.ndarray) -> np.ndarray:
    return np.asarray(image, np.float32).reshape(like.shape) / 255


def noise(p, s, rng):
    return p + (0.04, 0.06, 0.08, 0.09, 0.10)[s] * rng.standard_normal(p.shape)


def blur(p, s, rng):
    """Radius as on pictures of 32 pixels, by the picture's own size."""
    return _back(_image(p).filter(ImageFilter.GaussianBlur((0.4, 0.6, 0.7, 0.8, 1.0)[s] * min(p.shape[:2]) / 32)), p)


def brightness(p, s, rng):
    return p + (0.05, 0.1, 0.15, 0.2, 0.3)[s]


def contrast(p, s, rng):
    mean = p.mean((0, 1), keepdims=True)
    return (p - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[s] + mean


def jpeg(p, s, rng):
    file = io.BytesIO()
    _image(p).save(file, "jpeg", quality=(80, 65, 58, 50, 40)[s])
    return _back(Image.open(file), p)


def pixelate(p, s, rng):
    image = _image(p)
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[s]
    small = image.resize([max(1, round(n * share)) for n in image.size], Image.Resampling.BOX)
    return _back(small.resize(image.size, Image.Resampling.NEAREST), p)


PICTURES = {"noise": noise, "blur": blur, "brightness": brightness, "contrast": contrast, "jpeg": jpeg, "pixelate": pixelate}


# Text: each character's chance is the severity's share


def _text(column, change, share, rng) -> pa.Array:
    return pa.array([None if v is None else change(v, share, rng) for v in column.to_pylist()], pa.string())


def typos(text, share, rng):
    """A character left out, doubled, or changed with its neighbour."""
    out, i, hit, what = [], 0, rng.random(len(text)) < share, rng.integers(0, 3, len(text))
    while i < len(text):
        if not hit[i]:
            out.append(text[i])
        elif what[i] == 1:
            out.append(text[i] * 2)
        elif what[i] == 2 and i + 1 < len(text):
            out.append(text[i + 1] + text[i])
            i += 1
        i += 1
    return "".join(out)


def case(text, share, rng):
    return "".join(ch.swapcase() if r < 2 * share else ch for ch, r in zip(text, rng.random(len(text)), strict=True))


LOOKS = dict(zip("aeopcxyiABEHKMOPCTX", "аеорсхуіАВЕНКМОРСТХ", strict=True))  # Latin by Cyrillic
TRADITIONAL = dict(zip("国学会时这说对们来为个后问没见开关东车门马书买卖长风飞鱼鸟龙爱听写读话语电点热发现实体头机医药",
                       "國學會時這說對們來為個後問沒見開關東車門馬書買賣長風飛魚鳥龍愛聽寫讀話語電點熱發現實體頭機醫藥", strict=True))  # fmt: skip
WIDE = {chr(i): chr(i + 0xFEE0) for i in range(0x21, 0x7F)}


def looks(text, share, rng):
    return "".join(LOOKS.get(ch, ch) if r < share else ch for ch, r in zip(text, rng.random(len(text)), strict=True))


def variants(text, share, rng):
    """Chinese: traditional forms, and digits and letters in full width."""
    swap = TRADITIONAL | WIDE if any("一" <= ch <= "鿿" for ch in text) else WIDE
    return "".join(swap.get(ch, ch) if r < 2 * share else ch for ch, r in zip(text, rng.random(len(text)), strict=True))


def blanks(text, share, rng):
    """Blanks put in, and left out."""
    draws = rng.random(len(text))
    return "".join("" if ch == " " and r < share else ch + " " if r < share / 2 else ch for ch, r in zip(text, draws, strict=True))


class Synonyms:
    """Declared words and phrases by one of what means the same; the longest where several fit; a capital at the start stays. "art" is not found in "start",
    but Chinese has no spaces, and is found wherever it stands."""

    def __init__(self, of: dict[str, list[str]]):
        self.of = {word.casefold(): others for word, others in of.items()}
        letter = r"[^\W\u2e80-\U0010ffff]"  # of a script with spaces
        words = (re.escape(w) for w in sorted(of, key=len, reverse=True))
        words = (f"(?<!{letter}){w}" if re.match(letter, w) else w for w in words)
        words = (f"{w}(?!{letter})" if re.search(f"{letter}$", w) else w for w in words)
        self.pattern = re.compile("|".join(words), re.IGNORECASE)

    def __call__(self, text: str, share: float, rng: np.random.Generator) -> str:
        def other(match: re.Match) -> str:
            if rng.random() >= share:
                return match[0]
            others = self.of[match[0].casefold()]
            new = others[rng.integers(len(others))]
            return new[:1].upper() + new[1:] if match[0][0].isupper() else new

        return self.pattern.sub(other, text)


TEXTS = {"typos": typos, "case": case, "look_alikes": looks, "variants": variants, "blanks": blanks}
