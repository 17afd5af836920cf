"""Frame rates are exact, and lengths have exactly the frames that begin within them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.errors import UserError
from render.film.rate import MAX_RATE, MIN_RATE, frame_count, parse_rate


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        (24, Fraction(24)), ("24", Fraction(24)), (24.0, Fraction(24)), (12.5, Fraction(25, 2)),
        ("30000/1001", Fraction(30000, 1001)), (29.97, Fraction(30000, 1001)), ("23.976", Fraction(24000, 1001)),
        ("1/2", Fraction(1, 2)),
    ],
)  # fmt: skip
def test_rates_are_exact_and_those_of_television_are_meant(written: object, rate: Fraction) -> None:
    assert parse_rate(written) == rate


@pytest.mark.parametrize("written", [0, -1, "1/0", "24/", "nan", "inf", "1e3", True, None, [], "1001", "9" * 50, "1/1000"])
def test_other_rates_are_refused_in_one_line(written: object) -> None:
    with pytest.raises(UserError) as refusal:
        parse_rate(written)
    assert len(str(refusal.value).splitlines()) == 1


@given(st.integers(1, 5000), st.fractions(MIN_RATE, MAX_RATE, max_denominator=1001))
def test_every_frame_begins_before_the_end(tenths: int, rate: Fraction) -> None:
    count = frame_count(tenths / 10, rate)
    assert (count - 1) / rate < Fraction(tenths, 10) <= count / rate or count == 1
