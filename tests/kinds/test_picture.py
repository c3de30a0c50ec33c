"""Hostile pictures are handled or refused with their rows; augmentation agrees with a slow loop over rows."""

import io
import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from modelwright import find
from modelwright.data.schema import Schema, profile
from modelwright.errors import Refusal
from modelwright.kinds.picture import BLOCK, Picture, cutout, flip, translate


def saved(picture: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def column(cells: list) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells)])


def encoded(cells: list, **settings) -> tuple[Picture, dict]:
    kind, values = Picture(**settings), column(cells)
    kind.fit(values)
    return kind, kind.encode(values)


def test_lossless_pictures_come_back_pixel_for_pixel():
    a, b = noise(12, 10, 3), noise(12, 10, 3, seed=1)
    kind, stored = encoded([saved(Image.fromarray(a)), None, saved(Image.fromarray(b), "BMP")])
    assert (kind.size_, kind.channels_) == ([12, 10], 3)
    assert stored["known"].tolist() == [True, False, True]
    np.testing.assert_array_equal(stored["values"], np.stack([a, np.zeros_like(a), b]).transpose(0, 3, 1, 2))
    x = kind.batch(stored, np.array([2, 0]))
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.from_numpy(np.stack([b, a]).transpose(0, 3, 1, 2)).float() / 255)


def test_size_and_channels_are_inferred_or_declared():
    small, large = saved(Image.fromarray(noise(20, 20))), saved(Image.fromarray(noise(30, 20)))
    assert encoded([small, small])[1]["values"].shape == (2, 1, 20, 20)
    assert encoded([small, large])[1]["values"].shape == (2, 1, 64, 64)
    assert encoded([saved(Image.fromarray(noise(97, 97)))])[1]["values"].shape == (1, 1, 64, 64)
    assert encoded([small, saved(Image.fromarray(noise(20, 20, 3)))])[0].channels_ == 3
    assert encoded([small, large], size=8, channels=3)[1]["values"].shape == (2, 3, 8, 8)
    assert encoded([None, saved(Image.fromarray(noise(5, 7)))])[0].size_ == [5, 7]
    with pytest.raises(ValueError, match="between 1 and 8000"):
        Picture(size=0)


def test_resizing_averages_areas_and_crops_nothing():
    half = np.zeros((40, 80), np.uint8)
    half[:, 40:] = 200
    _, stored = encoded([saved(Image.fromarray(half))], size=4)
    np.testing.assert_allclose(stored["values"][0, 0, :, [0, 3]], [[0] * 4, [200] * 4], atol=1)


def test_large_jpegs_are_decoded_small_and_stay_the_mean_of_their_areas():
    ramp = np.add.outer(np.arange(960) * 0.1, np.arange(640) * 0.2)
    exif = Image.Exif()
    exif[0x0112] = 8  # stored turned a quarter clockwise
    upright, turned = (Image.fromarray(a.astype(np.uint8)) for a in (ramp, np.rot90(ramp, -1)))
    for cell in (saved(upright, "JPEG"), saved(turned, "JPEG", exif=exif)):
        _, stored = encoded([cell], size=16)
        inner = ramp.reshape(16, 60, 16, 40).mean((1, 3))[1:-1, 1:-1]  # a linear filter reaches over the edges
        np.testing.assert_allclose(stored["values"][0, 0, 1:-1, 1:-1], inner, atol=2)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight_by_rounding(format):
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    _, stored = encoded([saved(Image.fromarray(deep), format)])
    np.testing.assert_array_equal(stored["values"][0, 0], np.round(deep / 257))


def test_palette_cmyk_bits_and_animation():
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[:8], rgb[8:] = (255, 0, 0), (0, 0, 255)
    picture = Image.fromarray(rgb)
    cells = [
        saved(picture.convert("P", palette=Image.Palette.ADAPTIVE), "GIF"),
        saved(picture.convert("CMYK"), "TIFF"),
        saved(picture, "GIF", save_all=True, append_images=[Image.new("RGB", (16, 16), "white")] * 2),
        saved(picture, "WEBP", lossless=True),
    ]
    _, stored = encoded(cells)
    for got in stored["values"]:
        np.testing.assert_allclose(got.transpose(1, 2, 0), rgb, atol=1)
    bits = Image.fromarray(np.array([[True, False], [False, True]]))
    np.testing.assert_array_equal(encoded([saved(bits)])[1]["values"][0, 0], [[255, 0], [0, 255]])


def test_transparency_lies_on_white():
    clear = noise(6, 6, 4)
    a = clear[..., 3:].astype(float) / 255
    kind, stored = encoded([saved(Image.fromarray(clear))])
    np.testing.assert_allclose(stored["values"][0].transpose(1, 2, 0), clear[..., :3] * a + 255 * (1 - a), atol=1)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    assert encoded([saved(palette, transparency=0)])[1]["values"][0, :, 0, 0].tolist() == [255, 255, 255]


def test_exif_turns_the_picture_upright():
    upright = noise(6, 9)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned a quarter anticlockwise
    cell = saved(Image.fromarray(np.rot90(upright)), exif=exif)
    kind, stored = encoded([cell])
    assert kind.size_ == [6, 9]
    np.testing.assert_array_equal(stored["values"][0, 0], upright)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims width x height and whose data is a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_refused_all_at_once():
    good, whole = saved(Image.fromarray(noise(32, 32, 3)), "JPEG"), saved(Image.fromarray(noise(32, 32, 3)), "PNG")
    cut = whole[: len(whole) // 2]
    wrong = {
        "empty (0 bytes)": b"",
        "truncated": good[: len(good) // 2],
        "file is truncated": cut,
        "no picture": b"hello, world",
        "pixels": bomb(100_000, 100_000),
        "64 million": bomb(9_000, 9_000),
        "floating-point": saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
    }
    kind = Picture()
    kind.fit(column([good, cut]))  # which is passed over
    for what, cell in wrong.items():
        with pytest.raises(Refusal) as e:
            kind.encode(column([good, cell]))
        (problem,) = e.value.problems
        assert problem.code == "data.picture" and "1 of 2" in problem.what and "row 1: " in problem.what and what in problem.what
    far = BLOCK + 3  # in another block of rows
    with pytest.raises(Refusal) as e:
        kind.encode(column([*wrong.values()] + [good] * (far - len(wrong)) + [b"x"]))
    text = e.value.problems[0].what
    assert text.startswith(f"8 of {far + 1} pictures") and all(f"row {i}:" in text for i in range(5)) and "row 5:" not in text


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_no_hostile_cut_or_flipped_byte_escapes_as_another_error():
    rng = np.random.default_rng(0)
    kind = Picture(size=8, channels=3)
    kind.fit(column([None]))
    for format in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = saved(Image.fromarray(noise(24, 24, 3)), format)
        for _ in range(15):
            data = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.5 else whole)
            data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
            try:
                assert kind.encode(column([bytes(data)]))["values"].shape == (1, 3, 8, 8)
            except Refusal as e:
                assert e.problems[0].code == "data.picture"


def test_paths_stay_below_the_root(tmp_path):
    root = tmp_path / "图片"
    root.mkdir()
    a = noise(5, 5)
    (root / "a.png").write_bytes(saved(Image.fromarray(a)))
    (tmp_path / "b.png").write_bytes(saved(Image.fromarray(a)))
    _, stored = encoded(["a.png", None], root=str(root))
    np.testing.assert_array_equal(stored["values"][0, 0], a)
    _, stored = encoded([{"bytes": None, "path": "a.png"}, {"bytes": saved(Image.fromarray(a)), "path": "gone.png"}], root=str(root))
    np.testing.assert_array_equal(stored["values"][:, 0], [a, a])
    with pytest.raises(Refusal) as e:
        encoded(["../b.png", "c.png", "https://example.org/a.png"], root=str(root))
    text = e.value.problems[0].what
    assert "3 of 3" in text and "leads out" in text and "'c.png': there is no such file below" in text and "URL" in text


def test_guess():
    def score(cells: list, type: pa.DataType | None = None) -> float:
        return Picture.guess(profile(pa.table({"x": pa.array(cells, type)}))["x"])

    picture = Image.fromarray(noise(4, 4))
    for format in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        assert score([saved(picture, format), None]) == 0.95
    assert score(["cats/1.png", "狗/2.JPEG"]) == 0.95
    assert score([{"bytes": saved(picture), "path": None}]) == score([{"bytes": None, "path": "a.jpg"}]) == 0.95
    assert score([{"bytes": b"RIFF1234WAVE", "path": "a.wav"}]) == 0
    assert score([b"a", b"b"]) == score(["a sentence", "another.png"]) == score([1, 2]) == score([None], pa.string()) == 0


def test_schema_and_its_json():
    table = pa.table({"image": [saved(Image.fromarray(noise(8, 8, seed=i))) for i in range(5)]})
    schema = Schema({"image": find.make("kinds", {"picture": {"augment": ["flip"]}})}, {})
    schema.fit(table)
    again = Schema.from_json(schema.to_json())
    np.testing.assert_array_equal(again.encode(table).inputs["image"]["values"], schema.encode(table).inputs["image"]["values"])
    assert again.inputs["image"].describe() == "8 x 8, grey"


@pytest.mark.parametrize("reach, v, h", [(0.125, 2, 3), (0.25, 4, 6)])
def test_translate_is_the_loop_over_rows(reach, v, h):
    x = torch.rand(40, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    got, _ = translate(x, torch.Generator().manual_seed(1), reach)
    rng = torch.Generator().manual_seed(1)
    down, right = torch.randint(-v, v + 1, (40, 1), generator=rng), torch.randint(-h, h + 1, (40, 1), generator=rng)
    padded = torch.nn.functional.pad(x, (h, h, v, v), mode="reflect")
    want = torch.stack([padded[i, :, v + d : v + 16 + d, h + r : h + 24 + r] for i, (d, r) in enumerate(zip(down[:, 0].tolist(), right[:, 0].tolist()))])
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert len({tuple(o) for o in torch.cat([down, right], 1).tolist()}) > 1  # one offset a row


def test_flip_is_the_loop_over_rows():
    x = torch.rand(200, 1, 4, 5)
    got, _ = flip(x, torch.Generator().manual_seed(0))
    turned = [bool(torch.equal(g, row.flip(-1))) for g, row in zip(got, x)]
    assert all(t or torch.equal(g, row) for t, g, row in zip(turned, got, x)) and 70 < sum(turned) < 130


def test_cutout_is_one_rectangle_of_the_mean():
    x = torch.rand(200, 3, 8, 12)
    got, _ = cutout(x, torch.Generator().manual_seed(0))
    corners = set()
    for g, row in zip(got, x):
        hole = (g != row).any(0)
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        corners.add((int(rows[0]), int(columns[0])))
        want = row.clone()
        want[:, rows[0] : rows[0] + 2, columns[0] : columns[0] + 3] = row.mean((1, 2))[:, None, None]
        torch.testing.assert_close(g, want)
    assert {r for r, _ in corners} == set(range(7)) and {c for _, c in corners} == set(range(10))


def test_augmentations_are_the_declared_ones_and_repeatable():
    x = torch.rand(6, 1, 16, 16)
    kind = Picture(augment=("translate", "flip", "cutout"))
    a, b = (kind.augment(x, torch.Generator().manual_seed(3))[0] for _ in range(2))
    assert torch.equal(a, b) and not torch.equal(a, x)
    assert torch.equal(Picture(augment=()).augment(x, torch.Generator())[0], x)


def test_moves_say_where_a_pixel_went():
    x = torch.zeros(40, 1, 16, 24)
    x[:, 0, 7, 11] = 1.0  # its middle is at (x, y) = (11.5, 7.5)
    got, moves = Picture(augment=("translate", "flip", "translate")).augment(x, torch.Generator().manual_seed(0))
    for picture, move in zip(got, moves):
        place = move @ torch.tensor([11.5, 7.5, 1.0])
        assert picture[0, int(place[1]), int(place[0])] == 1.0
