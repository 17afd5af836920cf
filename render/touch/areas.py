"""Areas of a canvas that are touched: boxes and painted masks, with soft edges inside."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from render.config.schema import SourceConfig
from render.errors import UserError
from render.geometry.geometry import AxisMode, Interval, Rect, whole
from render.source.mask import Mask, open_mask
from render.touch.boxes import parse_feather

Weights = NDArray[np.float32]
#: Sigma of a mask's soft edge relative to its width: where a Gaussian of a straight edge is 99 %.
_SIGMA_PER_FEATHER = 1 / 2.4
#: Longest side of the grid on which the extent of a mask is found.
_EXTENT_GRID = 4096
#: Largest difference between a mask's aspect and the canvas', as a share of a side.
_MAX_STRETCH = 0.01


class Area(Protocol):
    """Area of a canvas, with weights by place."""

    @property
    def box(self) -> Rect:
        """Rectangle of the canvas outside of which nothing changes."""

    @property
    def feather(self) -> float:
        """Width of the soft edge, px."""

    @property
    def nbytes(self) -> int:
        """Host memory held, bytes."""

    def weights(self, rect: Rect) -> Weights:
        """Return the share of new pixels in a rectangle of the canvas: (rows, columns), 0..1."""

    def region(self, shape: tuple[int, int], rect: Rect) -> Weights:
        """Return where an octave of (rows, columns) px dreams, in a rectangle of it: (rows, columns), 0..1."""


@dataclass(frozen=True)
class BoxArea:
    """A box with a soft edge inside.

    Attributes:
        box: The box, px of the canvas.
        shape: (rows, columns) px of the canvas.
        feather: Width of the soft edge, px; 0 for a hard one.
        hard: Whether the first and the last edge of (rows, columns) is hard: at an end of the canvas there is no seam.
    """

    box: Rect
    shape: tuple[int, int]
    feather: float
    hard: tuple[tuple[bool, bool], tuple[bool, bool]]
    nbytes: int = 0

    @classmethod
    def of(cls, box: Rect, shape: tuple[int, int], feather: float, modes: tuple[AxisMode, AxisMode]) -> BoxArea:
        """Return the area of a box. On an axis that wraps, the canvas' ends are soft as well."""
        rows, columns = (
            (mode == "reflect" and span.start == 0, mode == "reflect" and span.stop == length)
            for span, length, mode in zip(box, shape, modes, strict=True)
        )
        return cls(box, shape, feather, (rows, columns))

    def weights(self, rect: Rect) -> Weights:
        """Return the share of new pixels: see `Area.weights`."""
        rows, columns = (
            self._ramp(span, inside, hard) for span, inside, hard in zip(rect, self.box, self.hard, strict=True)
        )
        return np.outer(rows, columns).astype(np.float32)

    def region(self, shape: tuple[int, int], rect: Rect) -> Weights:
        """Return the share of every pixel of an octave that the box covers: see `Area.region`."""
        rows, columns = (
            _coverage(span, inside, length / full)
            for span, inside, length, full in zip(rect, self.box, shape, self.shape, strict=True)
        )
        return np.outer(rows, columns).astype(np.float32)

    def _ramp(self, span: Interval, inside: Interval, hard: tuple[bool, bool]) -> NDArray[np.float64]:
        """Return the weights along one axis: 0 outside, and from 0 to 1 within the feather."""
        centres = np.arange(*span) + 0.5
        weights = ((centres > inside.start) & (centres < inside.stop)).astype(np.float64)
        if self.feather:
            for distances, is_hard in zip((centres - inside.start, inside.stop - centres), hard, strict=True):
                if not is_hard:
                    share = np.clip(distances / self.feather, 0.0, 1.0)
                    weights *= share * share * (3 - 2 * share)
        return weights


@dataclass(frozen=True)
class MaskArea:
    """A painted area.

    Attributes:
        box: Its extent, px of the canvas.
        shape: (rows, columns) px of the canvas.
        feather: Width of the soft edge, px; 0 for a hard one.
        painted: The mask.
        soft: The mask blurred by the width of the soft edge; None for a hard edge.
    """

    box: Rect
    shape: tuple[int, int]
    feather: float
    painted: Mask = field(repr=False)
    soft: Mask | None = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Host memory held, bytes."""
        return self.painted.nbytes + (0 if self.soft is None else self.soft.nbytes)

    def weights(self, rect: Rect) -> Weights:
        """Return the share of new pixels: see `Area.weights`. The soft edge lies inside of what is painted."""
        weights = self.painted.at(self.shape, rect)
        if self.soft is not None:
            weights = np.minimum(weights, np.clip(2 * self.soft.at(self.shape, rect) - 1, 0, 1, dtype=np.float32))
        return weights

    def region(self, shape: tuple[int, int], rect: Rect) -> Weights:
        """Return 1 where anything is painted: see `Area.region`."""
        return (self.painted.at(shape, rect) > 0).astype(np.float32)


def open_mask_area(
    value: str, shape: tuple[int, int], source: SourceConfig, feather: str, modes: tuple[AxisMode, AxisMode]
) -> MaskArea:
    """Return the area of a mask.

    Args:
        value: Path of the mask: white is touched.
        shape: (rows, columns) px of the canvas.
        source: Settings of the source, which limit the size of a picture.
        feather: Width of the soft edge, as `parse_feather` reads it.
        modes: Behaviour of (rows, columns) at the canvas' ends.

    Raises:
        UserError: The file cannot be a mask, or has another aspect than the canvas.
    """
    painted = _opened(value, source, modes)
    (rows, columns), (height, width) = painted.size, shape
    if abs(rows * width / (columns * height) - 1) > _MAX_STRETCH:
        raise UserError(
            f"mask={value} is {columns:,} x {rows:,} px and the canvas {width:,} x {height:,} px: paint it over the whole "
            "picture, at its size or smaller"
        )
    box = _extent(painted, shape)
    pixels, soft = parse_feather(feather, box), None
    if pixels:
        sigma = 100 * pixels * _SIGMA_PER_FEATHER / min(shape)
        soft = _opened({"image": value, "feather": min(max(sigma, 1e-3), 100.0)}, source, modes)
    return MaskArea(box, shape, pixels, painted, soft)


def _opened(value: Any, source: SourceConfig, modes: tuple[AxisMode, AxisMode]) -> Mask:
    return open_mask(value, source, "mask", modes)


def _extent(mask: Mask, shape: tuple[int, int]) -> Rect:
    """Return the rectangle of the canvas that holds all that is painted."""
    shrink = max(1.0, max(shape) / _EXTENT_GRID)
    grid = math.ceil(shape[0] / shrink), math.ceil(shape[1] / shrink)
    painted = mask.at(grid, whole(*grid)) > 0
    spans = []
    for axis, length, count in zip((1, 0), shape, grid, strict=True):
        indices = np.flatnonzero(painted.any(axis=axis))
        if not indices.size:
            raise UserError(f"{mask.name} is too fine for this canvas: paint larger")
        # A sample more on either side: resampling spreads what is painted by as much.
        first, last = int(indices[0]) - 1, int(indices[-1]) + 2
        spans.append(Interval(max(0, math.floor(first * length / count)), min(length, math.ceil(last * length / count))))
    return Rect(*spans)


def _coverage(span: Interval, inside: Interval, scale: float) -> NDArray[np.float64]:
    """Return the share of every pixel of an octave that lies in an interval of the canvas, along one axis."""
    starts = np.arange(*span, dtype=np.float64)
    return np.clip(np.minimum(starts + 1, inside.stop * scale) - np.maximum(starts, inside.start * scale), 0.0, 1.0)
