"""Names of a checkpoint's parts: arrays of the canvas' size that the next step depends on."""

from __future__ import annotations

#: The part that every checkpoint has.
CANVAS = "canvas"
_MOMENT = "moment-"


def moment_parts(count: int) -> tuple[str, ...]:
    """Return the names of an optimizer's `count` moments."""
    return tuple(f"{_MOMENT}{number + 1}" for number in range(count))


def moment_index(part: str) -> int:
    """Return the index of a moment, from 0, by the name of its part."""
    return int(part.removeprefix(_MOMENT)) - 1
