"""A picture: a file's bytes, or the path of one below the data's root; decoded once into 8 bits a channel.

Every picture is turned upright (EXIF), laid on white where it is transparent, and brought to one size without cropping, so that nothing at the edges
is lost. Size and channels come from the headers of at most 10,000 training pictures, evenly spaced. 16 bits become 8 by x / 257, as PNG defines it.
A picture that cannot be read is a refusal, never a black square. Augmentation works on whole batches: translation by up to size / 8 with reflection,
as in Keller Jordan 2024 (arXiv 2404.00498), flips left to right, and cutout (DeVries & Taylor 2017) of a quarter of each side, filled with the
picture's mean. Left out: pictures with more than 64 million pixels, frames after the first, vector formats, floating-point pixels (no known scale).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..data.sources import resolve
from ..errors import Refusal, refuse
from ..forms import Prediction
from ..kind import Kind, Metric, Profile, Stored

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
PATH = re.compile(r".+\.(png|jpe?g|gif|bmp|webp|tiff?|p[pgb]m)$", re.IGNORECASE)
MAGIC = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|BM|RIFF.{4}WEBP|II\*\x00|MM\x00\*", re.DOTALL)
GREY = ("1", "L", "I", "I;16", "I;16B", "I;16L", "LA")
MOST_PIXELS = 64_000_000
ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 swap height and width
BLOCK = 256  # rows that a thread decodes at a time
PAIRS = "between each row's predicted and true picture: of a model that draws new ones from noise it says nothing"


class Picture(Kind):
    place = "own"
    form = "picture"
    encoder = "resnet"
    head = "picture"
    primary = "rmse"
    measures = frozenset({"rmse", "psnr"})

    def __init__(
        self,
        size: int | None = None,
        channels: Literal[1, 3] | None = None,
        augment: tuple[Literal["translate", "flip", "cutout"], ...] = ("translate",),
        reach: float = 0.125,
        root: str | None = None,
    ):
        """size: of both sides in pixels; None: the training pictures' own where all agree and none is over 96, else 64.

        channels: None: 1 if all are grey. augment: in this order, in training. reach: of each side, by which translate moves at most; a short training
        learns more where pictures move less. root: the folder that paths are relative to and stay in; None: the current one. A task says it in
        data.root, so that no folder of one machine goes into a model (see `at`)."""
        if size is not None and not 1 <= size**2 <= MOST_PIXELS:
            raise ValueError(f"size ({size}) must lie between 1 and {int(MOST_PIXELS**0.5)} pixels a side")
        if not 0 < reach < 1:
            raise ValueError(f"reach ({reach}) must lie between 0 and 1 (of a side)")
        self.size, self.channels, self.reach, self.root = size, channels, reach, root
        self.augmentations = augment

    @classmethod
    def guess(cls, column: Profile) -> float:
        if not column.sample or isinstance(column.sample[0], (int, float)):  # so are most columns of wide tables
            return 0.0
        return 0.95 if sum(map(_looks_like_one, column.sample)) > 0.9 * len(column.sample) else 0.0

    def fit(self, values: pa.ChunkedArray) -> None:
        sizes: Counter[tuple[int, int]] = Counter()
        grey = True
        rows = np.unique(np.linspace(0, len(values) - 1, 10_000).astype(int)) if len(values) > 10_000 else range(len(values))
        for row in rows:
            try:
                picture = self._open(values[int(row)].as_py())
                if picture is not None:
                    sizes[_extent(picture)] += 1  # a PNG's may be behind its pixels, which may be cut short
                    grey = grey and picture.mode in GREY
            except Exception:  # noqa: BLE001 - `encode` says what is wrong with it
                continue
        if self.size is not None:
            self.size_ = [self.size, self.size]
        elif len(sizes) == 1 and max(next(iter(sizes))) <= 96:
            self.size_ = list(next(iter(sizes)))  # height, width
        else:
            self.size_ = [64, 64]
        self.channels_ = self.channels or (1 if grey and sizes else 3)

    def encode(self, values: pa.ChunkedArray) -> Stored:
        """values (N, C, H, W) uint8, zeros where missing; known (N,). Raises a Refusal that counts every unreadable row and names the first five."""
        pictures = np.zeros((len(values), self.channels_, *self.size_), np.uint8)
        known = values.is_valid().to_numpy(zero_copy_only=False).copy() if len(values) else np.zeros(0, bool)

        def decode(start: int) -> list[tuple[str, str]]:
            wrong = []
            for row, cell in enumerate(values.slice(start, BLOCK).to_pylist(), start):
                try:
                    picture = self._open(cell)
                    known[row] = picture is not None
                    if picture is not None:
                        pictures[row] = self._decode(picture)
                except Refusal as e:
                    wrong.append((_named(cell, row), e.problems[0].what))
                except Exception as e:  # noqa: BLE001 - Pillow's readers raise anything when the bytes are hostile
                    wrong.append((_named(cell, row), _reason(e)))
            return wrong

        with ThreadPoolExecutor(2) as threads:  # Pillow lets go of the interpreter's lock while it decodes
            wrong = [w for block in threads.map(decode, range(0, len(values), BLOCK)) for w in block]
        if wrong:
            shown = "; ".join(f"{name}: {what}" for name, what in wrong[:5]) + ("; ..." if len(wrong) > 5 else "")
            raise refuse(
                "data.picture",
                f"{len(wrong):,} of {len(values):,} pictures cannot be read: {shown}",
                why="a model must not learn from, or judge, a picture that is not there",
                fix="write those pictures again, remove their rows, or empty their cells to mark them as missing",
            )
        return {"values": pictures, "known": known}

    def extent(self, cell: Any) -> tuple[int, int] | None:
        """(height, width) of the upright picture, from its header; None where the cell is missing or cannot be read."""
        try:
            picture = self._open(cell)
            return None if picture is None else _extent(picture)
        except Exception:  # noqa: BLE001 - `encode` says what is wrong with it
            return None

    def thumbnail(self, cell: Any, side: int) -> Image.Image | None:
        """The upright picture in colour, at most `side` pixels a side; None where the cell is missing."""
        picture = self._open(cell)
        if picture is None:
            return None
        picture.draft("RGB", (side, side))
        picture = ImageOps.exif_transpose(picture).convert("RGB")
        picture.thumbnail((side, side))
        return picture

    def _open(self, cell: Any) -> Image.Image | None:
        """The picture with only its header read; None where the cell is missing."""
        path = None
        if isinstance(cell, dict):
            cell, path = cell.get("bytes"), cell.get("path")
        if isinstance(cell, str):
            cell, path = None, cell
        if cell is None and path is None:
            return None
        if cell is None:
            file = resolve(path, self.root or ".")
            if not file.is_file():  # nor a pipe or a device, which would never end
                raise ValueError(f"there is no such file below {str(self.root or '.')[-100:]} (data.root)")
            cell = file.read_bytes()
        if not isinstance(cell, bytes):
            raise ValueError(f"{cell!r} is neither a file's bytes nor its path"[:160])
        if not len(cell):
            raise ValueError("it is empty (0 bytes)")
        picture = Image.open(io.BytesIO(cell), formats=FORMATS)
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} is more than {MOST_PIXELS // 1_000_000} million pixels")
        return picture

    def _decode(self, picture: Image.Image) -> np.ndarray:
        """(C, H, W) uint8"""
        height, width = self.size_
        picture.draft(None, (2 * max(self.size_), 2 * max(self.size_)))  # a large JPEG decodes at a fraction of its size
        picture.load()
        if picture.getexif().get(ORIENTATION, 1) != 1:
            picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I"):
            deep = np.asarray(picture).astype(np.int64)
            if deep.min() < 0 or deep.max() > 65535:
                raise ValueError("its pixels have more than 16 bits")
            picture = Image.fromarray(((deep * 2 + 257) // 514).astype(np.uint8))  # round(x / 257)
        if picture.mode == "F":
            raise ValueError("its pixels are floating-point numbers, of no known scale")
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        mode = "L" if self.channels_ == 1 else "RGB"
        if picture.mode != mode:
            picture = picture.convert(mode)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)  # Pillow's is antialiased
        pixels = np.asarray(picture)
        return pixels[None] if self.channels_ == 1 else pixels.transpose(2, 0, 1)

    def at(self, root: str) -> None:
        self.root = root

    def contents(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """The digest of each picture's file, wherever it lies and whatever it is called; a column of bytes stands for itself."""
        if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
            return values
        parts = [pa.array([self._digest(cell) for cell in values.slice(i, BLOCK).to_pylist()], pa.binary()) for i in range(0, len(values), BLOCK)]
        return pa.chunked_array(parts, pa.binary())

    def _digest(self, cell: Any) -> bytes | None:
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (None, cell)
        if content is not None:
            return hashlib.sha256(content).digest()
        if not isinstance(path, str):
            return None
        try:
            file = resolve(path, self.root or ".")
            status = file.stat()
            return _file_digest(file, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)) if file.is_file() else path.encode()
        except (OSError, Refusal):  # `encode` says what is wrong with it
            return path.encode()

    def batch(self, stored: Stored, rows: np.ndarray) -> Tensor:
        """(B, C, H, W) float32 in [0, 1]"""
        return torch.from_numpy(stored["values"][rows]).float().div_(255)

    def augment(self, value: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        moved = None
        for name in self.augmentations:
            value, move = translate(value, rng, self.reach) if name == "translate" else {"flip": flip, "cutout": cutout}[name](value, rng)
            if move is not None:
                moved = move if moved is None else _after(moved, move)
        return value, moved

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        return self.encode(values)

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        """rmse over all pixels in [0, 1]; psnr = -10 log10 of a picture's mean squared error, at most 100 dB. prediction.value (N, C, H, W)"""
        error = np.concatenate([
            ((prediction.value[i : i + BLOCK].numpy() - truth["values"][i : i + BLOCK] / np.float32(255)) ** 2).mean((1, 2, 3), dtype=np.float64)
            for i in range(0, len(truth["values"]), BLOCK)
        ])  # fmt: skip
        error = np.where(truth["known"], error, np.nan)
        rmse = Metric(lambda index: float(np.nanmean(error[index]) ** 0.5), better="lower", note=PAIRS)
        return {"rmse": rmse, "psnr": Metric.mean(-10 * np.log10(np.maximum(error, 1e-10)), note=PAIRS)}

    def answer(self, name: str, prediction: Prediction) -> dict:
        """Each picture as a PNG's bytes."""
        pixels = (prediction.value.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return {name: [_png(p[:, :, 0] if p.shape[2] == 1 else p) for p in pixels]}

    def describe(self) -> str:
        return f"{self.size_[0]} x {self.size_[1]}, {'grey' if self.channels_ == 1 else 'colour'}"


@lru_cache(1 << 20)
def _file_digest(file: Path, state: tuple[int, ...]) -> bytes:
    """state: of the file, so that one that was changed is read again."""
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").digest()


def _extent(picture: Image.Image) -> tuple[int, int]:
    width, height = picture.size
    return (width, height) if picture.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8) else (height, width)


def _png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8"""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def _after(first: Tensor, then: Tensor) -> Tensor:
    """Both moves (B, 2, 3) as one."""
    turned = then[:, :, :2] @ first
    turned[:, :, 2] += then[:, :, 2]
    return turned


def _move(b: int, scale_x: Tensor | float, x: Tensor | float, y: Tensor | float) -> Tensor:
    """(B, 2, 3): (x, y) -> (scale_x x + x', y + y')"""
    move = torch.zeros(b, 2, 3)
    move[:, 0, 0], move[:, 0, 2], move[:, 1, 1], move[:, 1, 2] = scale_x, x, 1.0, y
    return move


def translate(x: Tensor, rng: torch.Generator, reach: float = 0.125) -> tuple[Tensor, Tensor]:
    """Each picture (B, C, H, W) moved by its own whole number of pixels, at most `reach` of each side; what comes in is a reflection."""
    b, _, *sides = x.shape
    index, shifts = [], []
    for n in sides:
        most = int(reach * n)
        shift = torch.randint(-most, most + 1, (b, 1), generator=rng)
        i = (torch.arange(n) + shift).abs()  # (B, n), reflected at 0 and then at n - 1
        index.append((n - 1 - (n - 1 - i).abs()).to(x.device))
        shifts.append(-shift[:, 0].float())
    moved = x[torch.arange(b, device=x.device)[:, None, None], :, index[0][:, :, None], index[1][:, None, :]].permute(0, 3, 1, 2)
    return moved, _move(b, 1.0, shifts[1], shifts[0])


def flip(x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Half of the pictures, left to right."""
    coin = torch.rand(len(x), generator=rng) < 0.5
    move = _move(len(x), torch.where(coin, -1.0, 1.0), torch.where(coin, float(x.shape[-1]), 0.0), 0.0)
    return torch.where(coin.to(x.device)[:, None, None, None], x.flip(-1), x), move


def cutout(x: Tensor, rng: torch.Generator) -> tuple[Tensor, None]:
    """A rectangle of a quarter of each side, anywhere within each picture, filled with the picture's mean."""
    b, _, *sides = x.shape
    inside = []
    for n in sides:
        side = max(1, n // 4)
        start = torch.randint(0, n - side + 1, (b, 1), generator=rng)
        i = torch.arange(n)
        inside.append(((i >= start) & (i < start + side)).to(x.device))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]  # (B, 1, H, W)
    return torch.where(hole, x.mean((2, 3), keepdim=True), x), None


def _looks_like_one(cell: Any) -> bool:
    if isinstance(cell, dict):
        return {"bytes", "path"} <= set(cell) and any(_looks_like_one(cell[k]) for k in ("bytes", "path"))
    if isinstance(cell, bytes):
        return MAGIC.match(cell) is not None
    return isinstance(cell, str) and PATH.fullmatch(cell.strip()) is not None and "\n" not in cell


def _named(cell: Any, row: int) -> str:
    """A picture as its owner finds it: by its path; where the table holds only bytes, by its place among the rows that are read (from 0)."""
    path = cell.get("path") if isinstance(cell, dict) else cell
    return repr(path[:120]) if isinstance(path, str) and path else f"row {row}"


def _reason(e: Exception) -> str:
    """What Pillow or the system says, in a few words."""
    if isinstance(e, Image.UnidentifiedImageError):
        return f"it is no picture of a known format ({', '.join(FORMATS)})"
    if isinstance(e, Image.DecompressionBombError):
        return f"it has more than {MOST_PIXELS // 1_000_000} million pixels"
    if isinstance(e, OSError) and e.filename is not None:
        return f"{e.strerror}"[:160]
    return (str(e) or type(e).__name__).split("\n")[0][:160]
