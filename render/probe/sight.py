"""The network's view of a picture, and texts about the classes that it sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from render.dreaming.resample import Pixels, ReadPixels, resample
from render.geometry.geometry import whole
from render.terminal.document import Column, Table

#: Side of the squares that are resampled one at a time, px. On a gigapixel canvas one of them reads 200 MB.
_PART_PX = 32
#: Smallest probability that is printed as a number.
_MIN_PROBABILITY = 0.0005
_COLUMNS = (
    Column("", lambda guesses: str(guesses["number"]), is_number=True),
    Column("before", lambda guesses: guesses["before"]["name"]),
    Column("", lambda guesses: _percent(guesses["before"]["probability"]), is_number=True),
    Column("after", lambda guesses: guesses["after"]["name"]),
    Column("", lambda guesses: _percent(guesses["after"]["probability"]), is_number=True),
)


def view(read: ReadPixels, shape: tuple[int, int], side: int) -> Pixels:
    """Return a picture as the network is shown it: resampled to a short side of `side` px.

    Args:
        read: returns a rectangle of the picture, float32 RGB.
        shape: (rows, columns) px of the picture.
        side: length of the shorter side of the result, px.

    Returns:
        (rows, columns, 3) float32 RGB, 0..255.
    """
    factor = side / min(shape)
    view_shape = max(side, round(shape[0] * factor)), max(side, round(shape[1] * factor))
    pixels = np.empty((*view_shape, 3), np.float32)
    for rect in whole(*view_shape).bands(_PART_PX * _PART_PX, _PART_PX):
        pixels[slice(*rect.rows), slice(*rect.columns)] = resample(read, shape, view_shape, rect)
    return np.clip(pixels, 0.0, 255.0, out=pixels)


def sight_table(record: Mapping[str, Any], model: str) -> Table:
    """Return the table of the classes before and after, from a record of `class_probe.answer`."""
    records = [
        {"number": number, "before": before, "after": after}
        for number, (before, after) in enumerate(zip(record["before"]["top"], record["after"]["top"], strict=False), 1)
    ]
    return Table(f"what {model} sees", _COLUMNS, records)


def sight_line(record: Mapping[str, Any]) -> str:
    """Return a line about the probed class before and after, from a record of `answer`."""
    target, sights = record["asked"], [record[moment] for moment in ("before", "after")]
    before, after = (f"{_percent(sight['probability'])}, rank {sight['rank']:,}" for sight in sights)
    return f"{target['name']} ({target['index']}): before {before}; after {after}"


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %" if probability >= _MIN_PROBABILITY else "< 0.1 %"
