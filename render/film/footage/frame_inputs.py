"""Inputs of each frame of dreamed footage: its picture, that of the frame before, and the motion between them.

None of it depends on dreams, so the next frame's is prepared in a thread while workers dream.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from render.config.film_schema import FlowConfig
from render.film.footage.carry import Carrier
from render.film.footage.clip import Clip, Shots, ends_early
from render.film.footage.flow import Grey, grey, measure_motion
from render.geometry.geometry import whole
from render.source.photo import PhotoSource
from render.system import interrupts

#: Longest side of the pictures that a flow is measured on, px: a larger one takes gigabytes.
_MAX_FLOW_SIDE_PX = 4096
#: Time between two looks for Ctrl-C, s.
_POLL_S = 0.2


@dataclass(frozen=True)
class FrameInput:
    """Inputs of a frame.

    Attributes:
        number: Number of the frame.
        picture: Its footage, laid onto the canvas.
        before: Footage of the frame before; None where a shot begins.
        carrier: What carries the dream of the frame before; None where a shot begins.
    """

    number: int
    picture: PhotoSource
    before: PhotoSource | None = None
    carrier: Carrier | None = None


class FrameInputs:
    """Maker of the inputs of a film's frames."""

    def __init__(self, clip: Clip, shots: Shots, source: PhotoSource, shape: tuple[int, int], settings: FlowConfig) -> None:
        """Store the parts; nothing is read.

        Args:
            clip: The footage.
            shots: Where its shots begin.
            source: Source of the film's job: any frame of the footage, laid onto the canvas.
            shape: (rows, columns) px of the canvas.
            settings: Settings of the flow.
        """
        self._clip = clip
        self._shots = shots
        self._source = source
        self._shape = shape
        self._settings = settings
        self._flow_shape = flow_shape(source, shape, settings.scale)

    def from_frame(self, first: int) -> Iterator[FrameInput]:
        """Yield the inputs of all frames from `first` on; the next one is prepared while one is used.

        Raises:
            UserError: The footage ends before the last frame that is asked for, or cannot be read.
        """
        inputs = self._in_order(first)
        with ThreadPoolExecutor(1, "footage") as thread:
            upcoming = thread.submit(next, inputs)
            try:
                while True:
                    # Waiting in turns, so that Ctrl-C is heard.
                    while not upcoming.done():
                        interrupts.check()
                        wait([upcoming], timeout=_POLL_S)
                    ready = upcoming.result()
                    upcoming = thread.submit(next, inputs)
                    yield ready
            finally:
                upcoming.cancel()

    def _in_order(self, first: int) -> Iterator[FrameInput]:
        frames = self._clip.frames(max(first - 1, 0))
        before = None if first == 0 else self._laid_out(next(frames, None), first - 1)
        grey_before = None if before is None else self._grey(before)
        number = first
        while True:
            picture = self._laid_out(next(frames, None), number)
            greys = self._grey(picture)
            if before is None or grey_before is None or self._shots.begins(number):
                yield FrameInput(number, picture)
            else:
                # The tolerance is in px of the frame.
                tolerance = self._settings.tolerance * self._flow_shape[1] / self._shape[1]
                motion = measure_motion(grey_before, greys, tolerance)
                yield FrameInput(number, picture, before, Carrier.of(motion, self._shape, self._settings.carry))
            before, grey_before, number = picture, greys, number + 1

    def _laid_out(self, frame: NDArray[Any] | None, number: int) -> PhotoSource:
        """Return a frame as the canvas shows it."""
        if frame is None or frame.shape != self._source.pixels.shape:
            raise ends_early(number)
        return replace(self._source, pixels=frame.astype(np.float32), sha256=f"{self._source.sha256}#{number}")

    def _grey(self, picture: PhotoSource) -> Grey:
        return grey(picture.at(self._flow_shape, whole(*self._flow_shape)))


def flow_shape(source: PhotoSource, shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return (rows, columns) px of the pictures that the flow is measured on: those of the footage, or of a smaller canvas.

    Args:
        source: A frame, laid onto the canvas.
        shape: (rows, columns) px of the canvas.
        scale: Share of these sides, above 0, at most 1.
    """
    height, width = source.size if source.window is None else (source.window.rows.extent, source.window.columns.extent)
    detail = min(1.0, max(height / shape[0], width / shape[1])) * scale
    detail = min(detail, _MAX_FLOW_SIDE_PX / max(shape))
    rows, columns = (max(1, round(length * detail)) for length in shape)
    return rows, columns
