"""Boxes and feathers as users write them: in pixels, per cent, or shares of the finished picture. Pure."""

from __future__ import annotations

import re

from render.errors import UserError
from render.geometry.geometry import Interval, Rect, whole

#: Smallest side of a box, px: networks draw nothing that is smaller.
MIN_BOX_SIDE = 32
#: Feather where the user says none.
USUAL_FEATHER = "10%"
_FORM = "box=x,y,width,height, in px of the finished picture, in per cent (10%,20%,30%,30%) or in shares (0.1,0.2,0.3,0.3)"
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?%?")
#: Largest feather, as a share of the box's short side.
_MAX_FEATHER_SHARE = 0.5


def parse_box(text: str, shape: tuple[int, int], least: int = MIN_BOX_SIDE) -> Rect:
    """Return the rectangle of the canvas that `box=` names.

    A number with `%` is per cent of the width or height, one with a point a share of it, and any other one pixels.

    Args:
        text: Value of the word: x, y, width and height with commas between.
        shape: (rows, columns) px of the canvas.
        least: Smallest side, px.

    Raises:
        UserError: It is no box, lies outside of the canvas, or is too small.
    """
    parts = text.strip("[]() ").replace(" ", "").split(",")
    if len(parts) != 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise UserError(f"box={text[:100]}: must be {_FORM}")
    height, width = shape
    x, y, wide, tall = (_pixels(part, length) for part, length in zip(parts, (width, height, width, height), strict=True))
    rect = Rect(Interval(y, y + tall), Interval(x, x + wide))
    if whole(*shape).intersect(rect) != rect:
        raise UserError(
            f"box={text[:100]} ends at {x + wide:,},{y + tall:,} px, and the canvas is {width:,} x {height:,} px: draw it "
            "inside"
        )
    if min(rect.shape) < least:
        raise UserError(f"box={text[:100]} is {wide:,} x {tall:,} px: take {least} px a side or more")
    return rect


def parse_feather(text: str, box: Rect) -> float:
    """Return the width of the soft edge inside a box, px.

    Args:
        text: Pixels, or per cent of the box's short side.
        box: The box.

    Raises:
        UserError: It is no number, or wider than half of the box.
    """
    side = min(box.shape)
    if not _NUMBER.fullmatch(text):
        raise UserError(
            f"feather={text[:100]}: must be pixels, or per cent of the area's short side, such as {USUAL_FEATHER}"
        )
    pixels = side * float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if pixels > _MAX_FEATHER_SHARE * side:
        raise UserError(f"feather={text[:100]} is wider than half of the area, which is {side:,} px: take less")
    return round(pixels, 3)


def _pixels(text: str, length: int) -> int:
    """Return a number of a box in whole pixels of a side of `length` px."""
    if text.endswith("%"):
        return round(float(text[:-1]) / 100 * length)
    return round(float(text) * length) if "." in text else int(text)
