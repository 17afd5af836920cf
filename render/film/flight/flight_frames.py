"""Maker of frames that do not depend on each other: several are computed at once, and yielded in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips

from render.canvas.image import to_integers
from render.dreaming.resample import Pixels
from render.export.picture import image_of, write_picture
from render.system import interrupts

#: Most frames that are computed at once.
MAX_THREADS = 4


def thread_count() -> int:
    """Return the frames that are computed at once on this machine."""
    return min(MAX_THREADS, os.cpu_count() or 1)


@dataclass(frozen=True)
class PictureFrame:
    """A frame whose pixels are in memory.

    Attributes:
        number: Number of the frame, from 0.
        pixels: (rows, columns, 3) float32 sRGB, 0..255; values beyond are clipped.
        bits: Bits of the picture's channels, 8 or 16.
    """

    number: int
    pixels: Pixels
    bits: int

    def write(self, path: Path) -> None:
        """Write the frame as PNG; raise `UserError` if that fails."""
        values = np.ascontiguousarray(to_integers(self.pixels, self.bits))
        if self.bits == 8:
            image = image_of(values)
        else:
            rows, columns = values.shape[:2]
            image = pyvips.Image.new_from_memory(values.data, columns, rows, 3, "ushort").copy(interpretation="rgb16")
        write_picture(path, image, "png")


@dataclass(frozen=True)
class IndependentFrames:
    """A `FrameMaker` of frames that follow from their number alone.

    Attributes:
        shape: (rows, columns) px.
        picture: Function from a frame's number to its pixels as `PictureFrame` has them; called in threads.
        bits: Bits of `film.bits`; more than 8 are stored as 16.
    """

    shape: tuple[int, int]
    picture: Callable[[int], Pixels]
    bits: int = 8

    def make(self, first: int, last: int) -> Iterator[PictureFrame]:
        """Yield the frames from `first` to before `last`; raise what `picture` raises."""
        threads = thread_count()
        ahead: deque[Future[Pixels]] = deque()
        stored_bits = 8 if self.bits == 8 else 16
        with ThreadPoolExecutor(threads) as pool:
            try:
                following = first
                for number in range(first, last):
                    while following < min(last, number + threads):
                        ahead.append(pool.submit(self.picture, following))
                        following += 1
                    interrupts.check()
                    yield PictureFrame(number, ahead.popleft().result(), stored_bits)
            finally:
                pool.shutdown(cancel_futures=True)
