"""Decoding of pictures in a separate thread, so that waiting for it can be interrupted.

Damaged tiles of a TIFF, which libvips replaces by zeros, become errors.
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

#: Most blocks that are decoded ahead; a block is one line, or several short ones.
_MAX_QUEUED_BLOCKS = 64
#: Interval at which a waiting thread checks for an interrupt, or for a consumer that has stopped, s.
_POLL_S = 0.1
#: Longest wait for a decoder that is no longer needed, s: some react only once their first row is ready.
_MAX_JOIN_S = 1.0
#: Message of libtiff for a tile that a file omits on purpose.
_OMITTED_TILE = "Invalid tile byte count"


class _Blocks:
    """Bounded queue of decoded blocks from the decoder's thread to the consumer."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | pyvips.Error | None] = queue.Queue(_MAX_QUEUED_BLOCKS)
        #: Set by the consumer when it needs no more blocks.
        self.is_cancelled = False

    def put(self, block: bytes | pyvips.Error | None) -> bool:
        """Pass on a block, an error, or None at the end; return False if nobody wants it."""
        while not self.is_cancelled:
            try:
                self._queue.put(block, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            # The first row may take long, and this wait must stay interruptible.
            interrupts.check()
            try:
                block = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if block is None:
                return
            if isinstance(block, pyvips.Error):
                raise block
            yield block


def decode_rows(image: pyvips.Image) -> Iterator[NDArray[Any]]:
    """Yield the rows of an image, several at a time, while a thread decodes the next ones.

    Args:
        image: Image of format `ushort` or `float`, opened to be read once.

    Yields:
        (rows, columns, bands) uint16 or float32.

    Raises:
        pyvips.Error: the file is damaged or cut.
    """
    dtype = {"ushort": np.uint16, "float": np.float32}[image.format]
    line_bytes = np.dtype(dtype).itemsize * image.bands * image.width
    blocks = _Blocks()

    def write(data: Any) -> int:
        """Pass on bytes of the image; return how many were accepted."""
        return len(data) if blocks.put(bytes(data)) else 0

    def compute() -> None:
        """Decode the image, in the thread."""
        target = pyvips.TargetCustom()
        target.on_write(write)
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
        blocks.is_cancelled = True
        thread.join(_MAX_JOIN_S)


def decode(image: pyvips.Image) -> NDArray[np.float32]:
    """Return all pixels of an image of format `float`: (rows, columns, bands) float32.

    Raises:
        pyvips.Error: the file is damaged or cut.
    """
    pixels: list[NDArray[np.float32]] = []
    failures: list[Exception] = []

    def compute() -> None:
        """Decode the image, in the thread."""
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
            thread.join(_POLL_S)
    finally:
        if thread.is_alive():
            image.set_kill(True)
            thread.join(_MAX_JOIN_S)
    if failures:
        raise failures[0]
    return pixels[0].reshape(image.height, image.width, image.bands)


@contextmanager
def tiles_checked(image: pyvips.Image) -> Iterator[None]:
    """Raise `pyvips.Error` at the end of this context if a tile of a TIFF was damaged.

    libvips fills such a tile with zeros and continues, but its error buffer keeps the message of the decoder.
    """
    is_tiff = bool(image.get_typeof("vips-loader")) and image.get("vips-loader").startswith("tiffload")
    if is_tiff:
        pyvips.vips_lib.vips_error_clear()
    yield
    if is_tiff:
        messages = pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer()).decode("utf-8", "replace")
        lines = [line for line in messages.splitlines() if line.strip() and _OMITTED_TILE not in line]
        if lines:
            raise pyvips.Error("a tile cannot be decoded", "\n".join(lines))
