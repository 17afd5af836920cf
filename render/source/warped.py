"""Source of a later frame of a film: the canvas of the frame before, warped, and the picture under the same camera.

Workers read the parts that they need of stored canvases and warp them by global coordinates, so that pixels depend neither
on the deal of blocks nor on tiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from render.canvas.store import CanvasStore
from render.dreaming.noise import fractal_noise
from render.dreaming.resample import Pixels
from render.geometry.affine import Affine
from render.geometry.geometry import AxisMode, Rect
from render.source.warping import warp
from render.storage.url import Place

#: Width of the soft edge where noise begins, px of the canvas before.
_NOISE_EDGE_PX = 1.0
#: Mean of the noise, levels, and the distance of the seeds of its scales.
_NOISE_MEAN, _LEVEL_KEY = 127.5, 0x1E3779B97F4A7C15
#: Most halvings and doublings at which a picture is read.
_MOST_LEVELS = 12


class PixelSource(Protocol):
    """The part of `Source` that a film's frames use."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of the picture, resampled to an octave; see `Source.at`."""


@dataclass(frozen=True)
class WarpedCanvas:
    """A stored canvas as a later frame sees it.

    Attributes:
        path: Path or URL of the canvas, absolute.
        token: Its token.
        shape: Its (rows, columns) px, which are those of every frame.
        to_canvas: Map from points of the frame to those of the canvas, px.
    """

    path: Place
    token: str
    shape: tuple[int, int]
    to_canvas: Affine


@dataclass(frozen=True)
class ColourShift:
    """Change of every channel: gain * level + offset."""

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return changed pixels, (rows, columns, 3) float32, not clipped."""
        if self == ColourShift():
            return pixels
        return pixels * np.asarray(self.gain, np.float32) + np.asarray(self.offset, np.float32)


@dataclass(frozen=True)
class FrameSource:
    """Change of a film's source for one frame; see `SourceChange`.

    Attributes:
        canvas: Canvas of the frame before.
        modes: Behaviour of rows and columns beyond a canvas' ends, and the picture's.
        colours: Change of the warped canvas' colours.
        fade: Share of the picture, 0 to 1.
        to_picture: Map from points of the frame to those of the picture on the first frame's canvas, px.
        picture_detail: Pixels of the picture itself to one of the canvas, along an axis: how near it stays sharp.
        noise: Seed of the noise beyond the canvas' ends; None continues the canvas by `modes`.
        ending: Canvas that is blended in at the end of a loop, and its share, 0 to 1; None for none.
    """

    canvas: WarpedCanvas
    modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect")
    colours: ColourShift = field(default_factory=ColourShift)
    fade: float = 0.0
    to_picture: Affine = field(default_factory=Affine)
    picture_detail: float = 1.0
    noise: int | None = None
    ending: tuple[WarpedCanvas, float] | None = None

    def applied_to(self, source: PixelSource) -> FramePixels:
        """Return the frame's source."""
        return FramePixels(self, source)

    def picture_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) px at which the picture is read for an octave of `shape`: near the octave's own scale."""
        if self.to_picture == Affine():
            return shape
        scale = self.to_picture.after(from_octave(shape, self.canvas.shape)).scale
        nearest = -math.floor(math.log2(scale)) if scale > 0 else 0
        sharpest = math.ceil(math.log2(max(1.0, self.picture_detail)))
        factor = 2.0 ** max(-_MOST_LEVELS, min(nearest, sharpest, _MOST_LEVELS))
        rows, columns = (max(1, round(length * factor)) for length in self.canvas.shape)
        return rows, columns


class FramePixels:
    """Pixels of a frame's source at any octave: see `Source.at`."""

    def __init__(self, frame: FrameSource, picture: PixelSource) -> None:
        """Store the parts; nothing is read yet."""
        self._frame = frame
        self._picture = picture

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of the source, resampled to an octave: (rows, columns, 3) float32 sRGB, 0..255.

        Raises:
            DamagedCheckpoint: A stored canvas cannot be read.
        """
        frame = self._frame
        pixels = frame.colours(self._canvas_at(self._store, frame.canvas, shape, rect))
        if frame.noise is not None:
            pixels = self._with_noise(pixels, shape, rect)
        if frame.fade:
            # Where noise is dreamed on beyond the picture's ends, the picture does not go on there.
            share = np.full((1, 1, 1), frame.fade, np.float32)
            if frame.noise is not None:
                share = share * self._covered(frame.to_picture, shape, rect)
            pixels = _blended(pixels, self._picture_at(shape, rect), share)
        if frame.ending is not None:
            ending, ending_share = frame.ending
            assert self._ending_store is not None
            pixels = _blended(pixels, self._canvas_at(self._ending_store, ending, shape, rect), ending_share)
        return np.clip(pixels, 0.0, 255.0)

    @cached_property
    def _store(self) -> CanvasStore:
        return CanvasStore(self._frame.canvas.path, self._frame.canvas.token)

    @cached_property
    def _ending_store(self) -> CanvasStore | None:
        ending = self._frame.ending
        return None if ending is None else CanvasStore(ending[0].path, ending[0].token)

    def _canvas_at(self, store: CanvasStore, canvas: WarpedCanvas, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of a warped canvas at an octave."""
        to_canvas = canvas.to_canvas.after(from_octave(shape, canvas.shape))
        return warp(store.read, canvas.shape, self._frame.modes, to_canvas, shape, rect)

    def _picture_at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of the picture under the camera, at an octave."""
        frame = self._frame
        if frame.to_picture == Affine():
            return self._picture.at(shape, rect)
        read_shape = frame.picture_shape(shape)
        # From the canvas' pixels to those that are read.
        to_read = from_octave(frame.canvas.shape, read_shape).after(frame.to_picture)
        to_read = to_read.after(from_octave(shape, frame.canvas.shape))
        return warp(lambda part: self._picture.at(read_shape, part), read_shape, frame.modes, to_read, shape, rect)

    def _with_noise(self, pixels: Pixels, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return pixels with noise where they lie beyond the canvas' ends."""
        frame = self._frame
        assert frame.noise is not None
        covered = self._covered(frame.canvas.to_canvas, shape, rect)
        if (covered == 1).all():
            return pixels
        noise = self._noise_at(frame.noise, shape, rect)
        # Pixels inside stay as they are to the last bit, whatever rectangle they are computed in.
        return np.where(covered == 1, pixels, _blended(noise, pixels, covered))

    def _noise_at(self, seed: int, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return noise that moves with the picture, so that what came in before goes on in what comes in now.

        Noise of one scale would be too fine or too coarse when the camera has gone far. So there is one for every doubling,
        and a frame between two has both, weighted so that their contrast is that of one.
        """
        full_shape = self._frame.canvas.shape
        level = math.log2(self._frame.to_picture.scale)
        coarse = math.floor(level)
        shares = {coarse: 1 - (level - coarse), coarse + 1: level - coarse}
        length = math.hypot(*shares.values())
        total = np.full((*rect.shape, 3), _NOISE_MEAN, np.float32)
        for doublings, share in shares.items():
            if share:
                key = (seed + doublings * _LEVEL_KEY) % 2**63
                to_noise = Affine.scaling(2.0**-doublings, 2.0**-doublings).after(self._frame.to_picture)
                noise = warp(
                    partial(fractal_noise, key, full_shape), full_shape, ("wrap", "wrap"),
                    to_noise.after(from_octave(shape, full_shape)), shape, rect,
                )  # fmt: skip
                total += (noise - np.float32(_NOISE_MEAN)) * np.float32(share / length)
        return total

    def _covered(self, to_canvas: Affine, shape: tuple[int, int], rect: Rect) -> NDArray[np.float32]:
        """Return the share of every pixel that a canvas covers which the frame sees by a map: (rows, columns, 1)."""
        full_shape = self._frame.canvas.shape
        return _coverage(to_canvas.after(from_octave(shape, full_shape)), full_shape, rect)[..., None]


def from_octave(shape: tuple[int, int], full_shape: tuple[int, int]) -> Affine:
    """Return the map from points of an octave of `shape` (rows, columns) px to those of the same picture at another."""
    return Affine.scaling(full_shape[1] / shape[1], full_shape[0] / shape[0])


def _blended(pixels: Pixels, others: Pixels, share: float | NDArray[np.float32]) -> Pixels:
    """Return pixels with a share, 0 to 1, of others."""
    return pixels + (others - pixels) * np.asarray(share, np.float32)


def _coverage(to_canvas: Affine, shape: tuple[int, int], rect: Rect) -> NDArray[np.float32]:
    """Return for every pixel of a rectangle the share, 0 to 1, that lies inside a canvas of (rows, columns) px."""
    x = np.arange(*rect.columns, dtype=np.float64)[None, :] + 0.5
    y = np.arange(*rect.rows, dtype=np.float64)[:, None] + 0.5
    across = to_canvas.xx * x + to_canvas.xy * y + to_canvas.x0
    down = to_canvas.yx * x + to_canvas.yy * y + to_canvas.y0
    covered = np.ones(rect.shape)
    for positions, length in ((down, shape[0]), (across, shape[1])):
        covered *= np.clip(np.minimum(positions, length - positions) / _NOISE_EDGE_PX, 0.0, 1.0)
    return covered.astype(np.float32)
