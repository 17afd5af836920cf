"""Decodes pictures in a thread of their own, so that waiting can be interrupted, and notices what libvips passes over."""

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

#: Lines, and blocks of shorter ones, that are decoded ahead.
_AHEAD = 64
#: How often a decoder that waits looks whether anybody still wants its pixels, s.
_LOOK_EVERY = 0.1
#: For how long a decoder that is not wanted any more is waited for, s: some look up only at the first row they have ready.
_END_WITHIN = 1.0
#: What libtiff says of a tile that a file leaves out on purpose.
_EMPTY_TILE = "Invalid tile byte count"


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
            with tiles_checked(image):
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
        thread.join(_END_WITHIN)


def decoded(image: pyvips.Image) -> NDArray[np.float32]:
    """A whole image of float32: (rows, columns, bands). Raises `pyvips.Error` where the file is damaged or cut."""
    pixels: list[NDArray[np.float32]] = []
    failures: list[Exception] = []

    def compute() -> None:
        try:
            with tiles_checked(image):
                pixels.append(image.numpy())
        except Exception as error:
            # Raised below, in the thread that waits.
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
    """Around decoding: raises `pyvips.Error` where a tile of a TIFF could not be decoded.

    libvips fills such a tile with zeros and goes on, but keeps what its decoder said.
    """
    is_tiff = bool(image.get_typeof("vips-loader")) and image.get("vips-loader").startswith("tiffload")
    if is_tiff:
        pyvips.vips_lib.vips_error_clear()
    yield
    if is_tiff:
        said = pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer()).decode("utf-8", "replace")
        lines = [line for line in said.splitlines() if line.strip() and _EMPTY_TILE not in line]
        if lines:
            raise pyvips.Error("a tile cannot be decoded", "\n".join(lines))
