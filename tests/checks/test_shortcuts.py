"""Statistics of pictures and files, and that bytes which follow from what is shown are no shortcut."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, PngImagePlugin

from modelwright.checks import shortcuts

RNG = np.random.default_rng(0)
SHOWN = [np.where(RNG.random((24, 24)) < share, RNG.integers(0, 255, (24, 24)), 90).astype(np.uint8) for share in RNG.random(60)]


def written(how):
    """how(i) -> format and settings of the i-th picture."""
    cells = []
    for i, x in enumerate(SHOWN):
        buffer, (form, settings) = io.BytesIO(), how(i)
        Image.fromarray(x).save(buffer, form, **settings)
        cells.append(buffer.getvalue())
    return pa.chunked_array([pa.array(cells, pa.binary())])


@pytest.mark.parametrize("form, settings", [("PNG", {}), ("JPEG", {"quality": 80}), ("BMP", {})])
def test_bytes_that_follow_from_what_is_shown_cancel(form, settings):
    column = written(lambda i: (form, settings))
    sizes = shortcuts.of_files(column)["file size"]
    beyond = shortcuts.beyond_content(column)
    assert np.ptp(beyond) <= 0.011 and (form == "BMP" or np.ptp(np.log(sizes)) > 0.5)


def test_how_a_file_was_written_shows():
    apart = np.arange(60) % 2 == 0
    codes = shortcuts.of_files(written(lambda i: ("JPEG", {"quality": 90 if apart[i] else 60})))["file compression"]
    assert set(codes[apart]).isdisjoint(codes[~apart])
    beyond = shortcuts.beyond_content(written(lambda i: ("PNG", {"compress_level": 9 if apart[i] else 0})))
    assert abs(beyond[apart]).max() <= 0.02 and beyond[~apart].mean() > 0.2  # 9 is what it is written again with
    exif = Image.Exif()
    exif[272] = "Model S"
    maker = shortcuts.of_files(written(lambda i: ("JPEG", {"exif": exif} if apart[i] else {})))["file maker"]
    assert set(maker[apart]).isdisjoint(maker[~apart])
    sites = [PngImagePlugin.PngInfo() for _ in "AB"]
    for site, name in zip(sites, "AB"):
        site.add_text("Comment", f"site {name}")
    notes = shortcuts.of_files(written(lambda i: ("PNG", {"pnginfo": sites[int(apart[i])]})))["file notes"]
    assert len(set(notes[apart])) == len(set(notes[~apart])) == 1 and notes[0] != notes[1]


def test_a_statistic_counts_above_its_own_limit():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 600)
    x = y + rng.normal(size=600) * 0.6  # AUROC about 0.88
    for name, counts in (("file format", True), ("mean of the top left corner", True), ("length of note", False), ("file size", False)):
        assert bool(shortcuts.telling({name: x}, y, 2, 0, 0.99, None)) == counts
