"""Frame rates as exact fractions, and the numbers of frames that follow from them."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from render.errors import UserError

#: Smallest and largest frame rate, frames a second.
MIN_RATE, MAX_RATE = Fraction(1, 60), Fraction(1000)
#: Most frames of a film: names of frames have six to nine digits, and a day at 60 frames a second has five million.
MAX_FRAMES = 10_000_000
#: Rounded names of the rates of NTSC television and of films for it, and the rates themselves.
_NTSC = {
    "23.976": Fraction(24000, 1001),
    "23.98": Fraction(24000, 1001),
    "29.97": Fraction(30000, 1001),
    "47.95": Fraction(48000, 1001),
    "59.94": Fraction(60000, 1001),
    "119.88": Fraction(120000, 1001),
}
_WRITTEN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(?:/(\d{1,9}))?")


def parse_rate(value: Any, key: str = "film.rate") -> Fraction:
    """Return a frame rate as an exact fraction.

    Args:
        value: A number, or text such as 24, 12.5, 30000/1001 or 29.97, which is 30000/1001 as on television.
        key: Key of the value, for the message.

    Raises:
        UserError: It is no rate from `MIN_RATE` to `MAX_RATE`.
    """
    text = "" if isinstance(value, bool) else str(value).strip()
    text = text.removesuffix(".0")
    match = _WRITTEN.fullmatch(text)
    if match is not None and (match[2] is None or int(match[2])):
        rate = _NTSC.get(text) or Fraction(match[1]) / Fraction(match[2] or 1)
        if MIN_RATE <= rate <= MAX_RATE:
            return rate
    raise UserError(
        f"{key}={str(value)[:200]}: must be frames a second from {MIN_RATE} to {MAX_RATE}, as a number or a fraction "
        "such as 24, 12.5 or 30000/1001"
    )


def rate_text(rate: Fraction) -> str:
    """Return a rate for people: 24, or 29.97."""
    return str(rate) if rate.denominator == 1 else f"{float(rate):.5g}"


def frame_count(seconds: float, rate: Fraction, key: str = "film.seconds") -> int:
    """Return the frames of a film: those that begin before its end, at least 1.

    Args:
        seconds: Length, s, above 0. Its decimal notation counts, so that 0.1 s at 30 frames a second are exactly 3.
        rate: Frames a second.
        key: Key of the length, for the message.

    Raises:
        UserError: They are more than `MAX_FRAMES`.
    """
    exact = Fraction(repr(float(seconds))) * rate
    count = max(1, -(-exact.numerator // exact.denominator))
    if count > MAX_FRAMES:
        raise UserError(
            f"{key}={seconds:g} at {rate_text(rate)} frames a second are {count:,} frames: at most {MAX_FRAMES:,}"
        )
    return count
