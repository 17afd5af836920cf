"""Decoding of pictures in a separate thread, so that waiting can be interrupted.

It also reports damaged tiles, which libvips passes over.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from render.system import interrupts

#: Number of blocks that are decoded ahead; a block is one line, or several short ones.
_AHEAD = 64
#: Interval at which a waiting thread checks for an interrupt or a consumer that has gone, s.
_LOOK_EVERY = 0.1
#: Longest wait for a decoder that is no longer needed, s: some react only once their first row is ready.
_END_WITHIN = 1.0
#: Message of libtiff for a tile that a file leaves out on purpose.
_EMPTY_TILE = "Invalid tile byte count"


class _Blocks:
    """Queue of decoded blocks from the decoder's thread to the consumer; the decoder works some blocks ahead."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | pyvips.Error | None] = queue.Queue(_AHEAD)
        self.unwanted = False

    def put(self, block: bytes | pyvips.Error | None) -> bool:
        """Hand over a block, an error, or None at the end; return False if the consumer has gone."""
        while not self.unwanted:
            try:
                self._queue.put(block, timeout=_LOOK_EVERY)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            # The first row may take long, and this wait must stay interruptible.
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
    """Yield the rows of an image of uint16 or float32, (rows, columns, bands), as libvips computes them in a thread.

    Raises:
        pyvips.Error: the file is damaged or cut.
    """
    dtype = {"ushort": np.uint16, "float": np.float32}[image.format]
    line_bytes = np.dtype(dtype).itemsize * image.bands * image.width
    blocks = _Blocks()

    def take(data: Any) -> int:
        return len(data) if blocks.put(bytes(data)) else 0

    def compute() -> None:
        target = pyvips.TargetCustom()
        target.on_write(take)
        try:
            with tiles_checked(image):
                image.rawsave_target(target)
            blocks.put(None)
        except pyvips.Error as error:
            blocks.put(error)

    thread = threading.Thread(target=compute, name="decoder", daemon=True)
    thread.start()
    try:
        buffer = bytearray()
        for block in blocks:
            buffer += block
            count = len(buffer) // line_bytes
            if count:
                complete = bytes(buffer[: count * line_bytes])
                del buffer[: count * line_bytes]
                yield np.frombuffer(complete, dtype).reshape(count, image.width, image.bands)
    finally:
        blocks.unwanted = True
        thread.join(_END_WITHIN)


def decoded(image: pyvips.Image) -> NDArray[np.float32]:
    """Return a whole image of float32, (rows, columns, bands).

    Raises:
        pyvips.Error: the file is damaged or cut.
    """
    pixels: list[NDArray[np.float32]] = []
    failures: list[Exception] = []

    def compute() -> None:
        try:
            with tiles_checked(image):
                pixels.append(image.numpy())
        except Exception as error:
            # Raised below, in the waiting thread.
            failures.append(error)

    thread = threading.Thread(target=compute, name="decoder", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            interrupts.check()
            thread.join(_LOOK_EVERY)
    finally:
        if thread.is_alive():
            image.set_kill(True)
            thread.join(_END_WITHIN)
    if failures:
        raise failures[0]
    return pixels[0].reshape(image.height, image.width, image.bands)


@contextmanager
def tiles_checked(image: pyvips.Image) -> Iterator[None]:
    """Raise `pyvips.Error` after decoding in this context if a tile of a TIFF could not be decoded.

    libvips fills such a tile with zeros and continues, but keeps its decoder's messages.
    """
    is_tiff = bool(image.get_typeof("vips-loader")) and image.get("vips-loader").startswith("tiffload")
    if is_tiff:
        pyvips.vips_lib.vips_error_clear()
    yield
    if is_tiff:
        messages = pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer()).decode("utf-8", "replace")
        lines = [line for line in messages.splitlines() if line.strip() and _EMPTY_TILE not in line]
        if lines:
            raise pyvips.Error("a tile cannot be decoded", "\n".join(lines))
