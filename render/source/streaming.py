"""Streams a picture file from top to bottom, shrunk on the way and in sRGB, so that it is never whole in memory.

A level that is `shrink` times smaller is always made from the file itself: first the decoder shrinks as far as it can while
it decodes (JPEG by leaving out frequencies of its 8 x 8 blocks, WebP by averaging areas, a pyramidal TIFF by having smaller
pages), then the mean over squares of what is left is taken. All of them are means over the pixels' own values, so that
colours do not shift from level to level, and what comes out depends on the file and on `shrink` alone.

Some files cannot be streamed: of a progressive JPEG, an interlaced PNG and a WebP at its full size the decoder itself holds
everything while it decodes (3 to 9 bytes a pixel, measured).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from render import interrupts
from render.source.photo import load, not_whole, to_srgb

#: A level's value of a level of 255: 8 bits fit 16 exactly.
SCALE = 257
#: What libjpeg can shrink by in its inverse transform at most.
_MOST_BY_JPEG = 8
#: Lines, and blocks of shorter ones, that are decoded ahead.
_AHEAD = 64
#: How often a decoder that waits looks whether anybody still wants its pixels, s.
_LOOK_EVERY = 0.1


@dataclass(frozen=True)
class Shrunk:
    """A picture about to be decoded: `shape` (rows, columns) samples of uint16 sRGB (0..255 times 257).

    Sample (i, j) is the mean over `factors` (rows, columns) px of the file's picture from (i, j) times `factors` on; at the
    far ends over as many as there are. The picture is as it lies in the file, not turned.
    """

    path: Path
    image: pyvips.Image
    factors: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.height, self.image.width

    def rows(self) -> Iterator[NDArray[np.uint16]]:
        """The rows in order, some at a time: (rows, columns, 3). Raises `UserError` where the file is damaged or cut."""
        try:
            yield from decoded_rows(self.image)
        except pyvips.Error as error:
            raise not_whole(self.path, error) from None


def open_shrunk(path: Path, background: Sequence[int], shrink: int) -> Shrunk:
    """The picture in a file, `shrink` (a power of two) times smaller; transparency is laid over `background` (R,G,B).

    Raises `UserError` for what is no picture any more.
    """
    try:
        picture = load(path)
        options, done = _decoder_shrink(path, picture, shrink)
        shrunk = load(path, **options) if options else picture
        factors = float(done), float(done)
        if "scale" in options:
            # The whole is fitted to a whole number of pixels.
            factors = picture.height / shrunk.height, picture.width / shrunk.width
        image = (to_srgb(shrunk, background) * float(SCALE)).rint().cast("ushort")
        rest = shrink // done
        if rest > 1:
            image = image.shrink(rest, rest, ceil=True)
        return Shrunk(path, image, (factors[0] * rest, factors[1] * rest))
    except pyvips.Error as error:
        raise not_whole(path, error) from None


def _decoder_shrink(path: Path, picture: pyvips.Image, shrink: int) -> tuple[dict[str, Any], int]:
    """The loader's options with which it shrinks as far as it can, up to `shrink`, and how far that is."""
    loader = picture.get("vips-loader")
    if loader.startswith("jpegload"):
        done = min(shrink, _MOST_BY_JPEG)
        return ({"shrink": done}, done) if done > 1 else ({}, 1)
    # With transparency the colours of invisible pixels would be averaged in.
    if loader.startswith("webpload") and shrink > 1 and not picture.hasalpha():
        return {"scale": 1 / shrink}, shrink
    if loader.startswith("tiffload"):
        return _smaller_page(path, picture, shrink)
    return {}, 1


def _smaller_page(path: Path, picture: pyvips.Image, shrink: int) -> tuple[dict[str, Any], int]:
    """The page of a pyramidal TIFF that is nearest above what is asked for.

    A pyramid's smaller pages follow the first, or hang on it as SubIFDs (Adobe PageMaker 6.0 TIFF Technical Notes, 1995).
    Pages are taken for a pyramid's as far as each has half the size of the one before.
    """
    below, name = picture.get("n-pages") - 1 if picture.get_typeof("n-pages") else 0, "page"
    first = 1
    if picture.get_typeof("n-subifds"):
        below, name, first = picture.get("n-subifds"), "subifd", 0
    found: dict[str, Any] = {}
    done = 1
    for number in range(below):
        if 2 * done > shrink:
            break
        options = {name: first + number}
        try:
            smaller = load(path, **options)
        except pyvips.Error:
            # A page of something else, which nobody asked for.
            break
        half = all(
            length // (2 * done) <= side <= -(-length // (2 * done))
            for length, side in ((picture.height, smaller.height), (picture.width, smaller.width))
        )
        if not half or (smaller.bands, smaller.format) != (picture.bands, picture.format):
            break
        found, done = options, 2 * done
    return found, done


class _Blocks:
    """Carries what a decoder in another thread has ready to whoever asks for it, some ahead."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | pyvips.Error | None] = queue.Queue(_AHEAD)
        self.unwanted = False

    def put(self, block: bytes | pyvips.Error | None) -> bool:
        """Hands over a block, an error, or None at the end; False where nobody wants it any more."""
        while not self.unwanted:
            try:
                self._queue.put(block, timeout=_LOOK_EVERY)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            # The decoder may be long at its first row; whoever waits here may be asked to stop.
            interrupts.check()
            try:
                block = self._queue.get(timeout=_LOOK_EVERY)
            except queue.Empty:
                continue
            if block is None:
                return
            if isinstance(block, pyvips.Error):
                raise block
            yield block


def decoded_rows(image: pyvips.Image) -> Iterator[NDArray[Any]]:
    """The rows of an image of uint16 or float32, some at a time, as libvips computes them in a thread of its own.

    (rows, columns, bands). Raises `pyvips.Error` where the file is damaged or cut.
    """
    kind = {"ushort": np.uint16, "float": np.float32}[image.format]
    line = np.dtype(kind).itemsize * image.bands * image.width
    blocks = _Blocks()

    def take(data: Any) -> int:
        return len(data) if blocks.put(bytes(data)) else 0

    def compute() -> None:
        target = pyvips.TargetCustom()
        target.on_write(take)
        try:
            image.rawsave_target(target)
            blocks.put(None)
        except pyvips.Error as error:
            blocks.put(error)

    thread = threading.Thread(target=compute, name="decoder", daemon=True)
    thread.start()
    try:
        begun = bytearray()
        for block in blocks:
            begun += block
            count = len(begun) // line
            if count:
                whole = bytes(begun[: count * line])
                del begun[: count * line]
                yield np.frombuffer(whole, kind).reshape(count, image.width, image.bands)
    finally:
        blocks.unwanted = True
        thread.join()
