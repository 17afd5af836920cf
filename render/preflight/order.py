"""A print order: the limits that a file must keep for the shop that takes it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from render.errors import UserError
from render.export.profile import Profile
from render.geometry.units import CM_PER_INCH

#: Values of keys that are numbers: (least, greatest).
NUMBERS: dict[str, tuple[float, float]] = {
    "tac": (1, 400),
    "dpi": (0, 10_000),
    "width_cm": (0.1, 100_000),
    "height_cm": (0.1, 100_000),
    "bleed_mm": (0, 1000),
    "jpeg_quality": (1, 100),
    "clipped_percent": (0, 100),
}
#: Values of keys that take one word or several.
CHOICES: dict[str, tuple[str, ...]] = {
    "colour": ("cmyk", "rgb", "grey"),
    "bits": ("8", "16"),
    "formats": ("png", "jpeg", "webp", "tiff"),
}
#: Values of keys that take one word.
WORDS: dict[str, tuple[str, ...]] = {"black": ("k", "any")}
SWITCHES = ("interlaced", "transparency")
#: Keys that take texts, and the one that takes the name of a file.
TEXTS, FILE = ("icc",), "profile"
#: Most texts of a key, and most characters of one.
_MAX_TEXTS, _MAX_CHARACTERS = 32, 200


@dataclass(frozen=True)
class PrintOrder:
    """Limits that a file must keep; None, or nothing in a list, asks for nothing.

    Attributes:
        spec: Name of the spec that the limits are from; None for words alone.
        colour: Colours that pixels may have: `cmyk`, `rgb`, `grey`.
        icc: Texts of which the name of the picture's ICC profile must contain one.
        profile: Profile of the press, CMYK, by which the ink of RGB pictures is measured.
        tac: Most ink of a pixel, percent: the total area coverage, 400 with four full inks.
        black: `k` if black must be printed with black ink alone.
        dpi: Least pixels an inch on paper; 0 for a picture that is not printed, so that no resolution is needed.
        width_cm: Width of the trimmed print.
        height_cm: Its height.
        bleed_mm: Bleed on every side.
        bits: Bits of a channel that it may have.
        formats: Formats of the file that it may have.
        interlaced: False if the file may not be an interlaced PNG or a progressive JPEG.
        transparency: True if it may be transparent.
        jpeg_quality: Least quality of a JPEG, 1..100.
        clipped_percent: Most percent of the pixels at an end of any channel.
    """

    spec: str | None = None
    colour: tuple[str, ...] = ()
    icc: tuple[str, ...] = ()
    profile: Profile | None = None
    tac: float | None = None
    black: str | None = None
    dpi: float | None = None
    width_cm: float | None = None
    height_cm: float | None = None
    bleed_mm: float | None = None
    bits: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    interlaced: bool | None = None
    transparency: bool | None = None
    jpeg_quality: float | None = None
    clipped_percent: float | None = None

    @property
    def is_printed(self) -> bool:
        """Whether the picture goes onto paper, so that its resolution matters."""
        return self.dpi != 0

    @property
    def sides_px(self) -> tuple[float | None, float | None]:
        """(width, height) px that the dpi needs for the size with its bleed; None for a side that is not ordered."""
        width, height = self.sides_cm
        dots = (self.dpi or 0) / CM_PER_INCH
        return None if width is None else width * dots, None if height is None else height * dots

    @property
    def sides_cm(self) -> tuple[float | None, float | None]:
        """(width, height) in cm with the bleed; None for a side that is not ordered."""
        bleed = 2 * (self.bleed_mm or 0) / 10
        sides = self.width_cm, self.height_cm
        width, height = (None if side is None else side + bleed for side in sides)
        return width, height


#: Keys of an order in files and words.
KEYS = tuple(field.name for field in fields(PrintOrder) if field.name != "spec")


def checked(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return the values of an order's keys in the types of `PrintOrder`, but `profile` as the text that it is.

    Args:
        values: Plain data from YAML, or texts of words.
        place: Beginning of messages, such as `spec.` for words.

    Raises:
        UserError: a key is unknown, or a value is not one that it may have.
    """
    checked_values = {}
    for key, value in values.items():
        if key not in KEYS:
            close_matches = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"did you mean {close_matches[0]}? " if close_matches else ""
            raise UserError(f"{place}{_short(key)}: an order has no such key: {hint}it has {', '.join(KEYS)}")
        if value is None or value == "null":
            checked_values[key] = getattr(PrintOrder(), key)
        else:
            checked_values[key] = _value(key, value, place)
    return checked_values


def _value(key: str, value: Any, place: str) -> Any:
    """Return a value in the type of its key."""
    message = f"{place}{key}={_short(value)}"
    if key in NUMBERS:
        return _number(value, *NUMBERS[key], message)
    if key in SWITCHES:
        if not isinstance(value, bool) and value not in ("true", "false"):
            raise UserError(f"{message}: must be true or false")
        return value in (True, "true")
    if key in CHOICES:
        words = _texts(value, message)
        if unknown := [word for word in words if word not in CHOICES[key]]:
            raise UserError(f"{message}: there is no {_short(unknown[0])}: choose from {', '.join(CHOICES[key])}")
        return words
    if key in WORDS:
        if value not in WORDS[key]:
            raise UserError(f"{message}: choose from {', '.join(WORDS[key])}")
        return value
    if key in TEXTS:
        return _texts(value, message)
    if not isinstance(value, str) or not value:
        raise UserError(f"{message}: must be cmyk, or the name of an .icc file")
    return value


def _number(value: Any, least: float, greatest: float, message: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not least <= number <= greatest:
        raise UserError(f"{message}: must be a number from {least:g} to {greatest:g}")
    return number


def _texts(value: Any, message: str) -> tuple[str, ...]:
    """Return the texts of a list, of `a,b`, of `[a,b]`, or of one text or whole number."""
    values = value
    if isinstance(value, str):
        values = [part.strip() for part in value.removeprefix("[").removesuffix("]").split(",")]
    elif isinstance(value, int) and not isinstance(value, bool):
        values = [value]
    if not isinstance(values, list) or not 0 < len(values) <= _MAX_TEXTS:
        raise UserError(f"{message}: must be a word, or words with commas between")
    texts = tuple(str(text) for text in values if isinstance(text, str | int) and not isinstance(text, bool))
    if len(texts) < len(values) or not all(0 < len(text) <= _MAX_CHARACTERS for text in texts):
        raise UserError(f"{message}: must be a word, or words with commas between")
    return texts


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 and text.isprintable() else ascii(text[:60])
