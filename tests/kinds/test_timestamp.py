"""Times: any unit, text with and without a zone, and a zone that is missing where training had one."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from modelwright import find
from modelwright.errors import Refusal
from modelwright.kinds.timestamp import seconds

WHEN = [datetime(2024, 1, 31, 13, 45, 7, 123456), None, datetime(1969, 12, 31, 23), datetime(2024, 2, 29)]


def column(*args):
    return pa.chunked_array([pa.array(*args)])


def fitted(values):
    kind = find.make("kinds", "timestamp")
    kind.fit(values)
    return kind


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_any_unit_is_seconds_to_the_millisecond(unit, zone):
    values = column(WHEN, pa.timestamp("us", zone)).cast(pa.timestamp(unit, zone), safe=False)
    true = [np.nan if w is None else w.replace(tzinfo=UTC).timestamp() for w in WHEN]
    assert np.allclose(seconds(values), true, rtol=0, atol=1 if unit == "s" else 1e-3, equal_nan=True)
    assert np.isfinite(fitted(values).encode(values)["values"]).all(1).tolist() == [True, False, True, True]


def test_text_means_what_it_says():
    plain = [None if w is None else w.isoformat() for w in WHEN]
    assert np.array_equal(seconds(column(plain)), seconds(column(WHEN)), equal_nan=True)
    east = timezone(timedelta(hours=8))
    zoned = [None if w is None else w.replace(tzinfo=UTC).astimezone(east).isoformat() for w in WHEN]
    assert np.array_equal(seconds(column(zoned)), seconds(column(WHEN)), equal_nan=True)
    for wrong in (["2024-13-01"], ["yesterday"], [plain[0], zoned[0]]):
        with pytest.raises(Refusal):
            seconds(column(wrong))


def test_a_zone_is_in_training_and_later_or_in_neither():
    bare, zoned = column(WHEN), column(WHEN, pa.timestamp("us", "UTC"))
    text = column([None if w is None else w.isoformat() + "Z" for w in WHEN])
    for kind, same, other in ((fitted(bare), bare, (zoned, text)), (fitted(zoned), text, (bare,))):
        copy = find.make("kinds", "timestamp")
        copy.load(kind.state())
        assert np.array_equal(copy.encode(same)["values"], kind.encode(same)["values"], equal_nan=True)
        for values in other:
            with pytest.raises(Refusal, match="zone"):
                copy.encode(values)
    dates = column([w and w.date() for w in WHEN])
    assert fitted(dates).zoned_ is None and fitted(dates).encode(bare)["values"].shape == (4, 7)
    assert "UTC" in fitted(zoned).describe() and "UTC" not in fitted(bare).describe() and fitted(column([None] * 3, pa.timestamp("s"))).describe()
