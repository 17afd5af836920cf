"""Colours of a film: those of the first frame, measured once, which later frames hold; and of its pictures.

All sums are in float64 and over strips in a fixed order, so that every process that measures a canvas finds the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypedDict

import numpy as np

from render.canvas.store import CanvasStore
from render.errors import UserError
from render.export.colour import ColourAdjustment
from render.export.colour_match import ColourMap
from render.geometry.geometry import CHUNK
from render.source.warped import ColourShift
from render.storage.opening import open_storage
from render.storage.records import Between, MalformedRecord, Sha256, check_shape, parse_record
from render.storage.url import Place, joined
from render.system import interrupts

#: File of the first frame's colours, beside the canvases.
COLOURS = "colours.json"
_VERSION = 1
#: Largest change of a channel's spread from a frame to the next.
_LEAST_GAIN, _MOST_GAIN = 0.5, 2.0
#: Middle of the range, subtracted before squares are summed.
_MIDDLE = 127.5


@dataclass(frozen=True)
class ChannelSpread:
    """Mean and standard deviation of R, G and B over a canvas, levels."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


@dataclass(frozen=True)
class FilmColours:
    """Colours that follow from the first frame.

    Attributes:
        spread: Spread of its channels, which later frames hold.
        adjustment: Change of colours from every canvas to its picture.
    """

    spread: ChannelSpread
    adjustment: ColourAdjustment


_Number = Annotated[float, Between(-1e9, 1e9)]


class _StoredSpread(TypedDict):
    mean: list[_Number]
    deviation: list[Annotated[float, Between(0.0, 1e9)]]


class _StoredMap(TypedDict):
    matrix: list[list[_Number]]
    offset: list[_Number]


class _StoredAdjustment(TypedDict):
    saturation: _Number
    black: _Number
    white: _Number
    match: _StoredMap | None


class _StoredColours(TypedDict):
    version: int
    sha256: Sha256
    digest: Sha256
    spread: _StoredSpread
    adjustment: _StoredAdjustment


def measure_spread(canvas: CanvasStore) -> ChannelSpread:
    """Return the spread of a canvas' channels; it is read once, strip by strip.

    Raises:
        DamagedCheckpoint: The canvas cannot be read.
    """
    totals, squares, count = np.zeros(3), np.zeros(3), 0
    for rect in canvas.rect.bands(multiple=CHUNK):
        interrupts.check()
        pixels = canvas.read(rect)
        for channel in range(3):
            levels = pixels[..., channel].astype(np.float64)
            levels -= _MIDDLE
            totals[channel] += levels.sum()
            squares[channel] += np.square(levels, out=levels).sum()
        count += rect.area
    mean = totals / count
    deviation = np.sqrt(np.maximum(squares / count - mean * mean, 0.0))
    return ChannelSpread(_three(mean + _MIDDLE), _three(deviation))


def held_shift(canvas: ChannelSpread, first: ChannelSpread, hold: float) -> ColourShift:
    """Return the change that brings a canvas' colours back to the first frame's.

    Args:
        canvas: Spread of the canvas.
        first: Spread of the first frame.
        hold: Share of the way back, 0 to 1.
    """
    if hold == 0:
        return ColourShift()
    gains, offsets = [], []
    for mean, deviation, held_mean, held_deviation in zip(
        canvas.mean, canvas.deviation, first.mean, first.deviation, strict=True
    ):
        full = min(max(held_deviation / deviation, _LEAST_GAIN), _MOST_GAIN) if deviation > 0 else 1.0
        gain = 1.0 + hold * (full - 1.0)
        gains.append(gain)
        offsets.append(mean + hold * (held_mean - mean) - gain * mean)
    return ColourShift(_three(gains), _three(offsets))


def write_colours(place: Place, colours: FilmColours, digest: str) -> None:
    """Write the first frame's colours beside the canvases at `place`; `digest` is the film's."""
    record = {"digest": digest, **asdict(colours)}
    content = {"version": _VERSION, "sha256": _sha256(json.loads(json.dumps(record))), **record}
    open_storage(place, patient=True).write(COLOURS, json.dumps(content, indent=1).encode())


def read_colours(place: Place, digest: str) -> FilmColours | None:
    """Return the colours beside the canvases at `place`; None if they were not measured yet.

    Raises:
        UserError: They were changed, or are another film's.
    """
    try:
        content, _ = open_storage(place, patient=True).load(COLOURS)
        stored = _checked(parse_record(content), digest)
    except FileNotFoundError:
        return None
    except (OSError, MalformedRecord) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{joined(place, COLOURS)} cannot be read ({reason}): fresh=true starts the film over") from None
    adjustment = stored["adjustment"]
    match = adjustment["match"]
    colour_map = None if match is None else ColourMap(tuple(map(_three, match["matrix"])), _three(match["offset"]))
    return FilmColours(
        ChannelSpread(_three(stored["spread"]["mean"]), _three(stored["spread"]["deviation"])),
        ColourAdjustment(adjustment["saturation"], adjustment["black"], adjustment["white"], colour_map),
    )


def _checked(content: Any, digest: str) -> _StoredColours:
    """Return the record if it is whole and of this film; otherwise raise `MalformedRecord`."""
    check_shape(content, _StoredColours)
    stored: _StoredColours = content
    if stored["version"] != _VERSION:
        raise MalformedRecord(f"version {stored['version']}")
    record = {key: stored[key] for key in ("digest", "spread", "adjustment")}
    if stored["sha256"] != _sha256(record) or stored["digest"] != digest:
        raise MalformedRecord("it is not as it was written")
    match = stored["adjustment"]["match"]
    rows = [stored["spread"]["mean"], stored["spread"]["deviation"]]
    rows += [] if match is None else [match["offset"], *match["matrix"]]
    if any(len(row) != 3 for row in rows) or (match is not None and len(match["matrix"]) != 3):
        raise MalformedRecord("it has other than three channels")
    return stored


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _sha256(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
