"""Frames of bytes on their way through a socket that does not block: a header, and buffers from or into which bytes go.

Buffers are sent and filled where they are, such as the rows of a rectangle in a canvas, many with each call of the system:
nothing is copied on the way.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

#: What a frame is made of: objects with C-contiguous buffers, such as arrays.
Buffers = Sequence[Any]

#: A frame's kind and the length of its payload, bytes.
_HEADER = struct.Struct("!IQ")
#: Most buffers in one call of the system, below Linux' own limit of 1,024.
_MOST_BUFFERS = 512


class FrameTarget(NamedTuple):
    """Writable buffers that a frame fills exactly, in their order, and their bytes together."""

    buffers: Buffers
    nbytes: int


class Sending:
    """A frame on its way out."""

    def __init__(self, kind: int, buffers: Buffers) -> None:
        """Begin a frame; nothing is sent yet."""
        views = _views(buffers)
        header = _HEADER.pack(kind, sum(view.nbytes for view in views))
        self._left = deque([memoryview(header), *views])

    def advance(self, connection: socket.socket) -> bool:
        """Send what the system takes now. Return True if all is sent. Raise `OSError`."""
        left = self._left
        while left:
            try:
                count = connection.sendmsg(_first(left))
            except BlockingIOError:
                return False
            _drop(left, count)
        return True


class Receiving:
    """A frame on its way in."""

    def __init__(
        self,
        kind: int,
        expected: int | FrameTarget,
        make_room: Callable[[int], memoryview] = lambda _length: memoryview(b""),
    ) -> None:
        """Expect a frame.

        Args:
            kind: Its kind.
            expected: The most bytes of its payload, or what it fills.
            make_room: Returns memory for a payload of so many bytes; not called if there is a target.
        """
        self._kind, self._make_room = kind, make_room
        self._target = expected if isinstance(expected, FrameTarget) else None
        self._most = expected.nbytes if isinstance(expected, FrameTarget) else expected
        self._header = memoryview(bytearray(_HEADER.size))
        self._left = deque([self._header])
        self._is_begun = False
        self._payload: memoryview | None = None
        #: Bytes of the payload that are there.
        self.received = 0

    @property
    def payload(self) -> memoryview:
        """The payload, once all is there; empty if it has filled a target."""
        assert self._payload is not None, "the frame has not come"
        return self._payload

    def advance(self, connection: socket.socket) -> bool:
        """Read what is there now. Return True if the frame is complete.

        Raises:
            OSError: The connection has ended.
            AssertionError: The frame is not the one that is expected.
        """
        left = self._left
        while True:
            if not left:
                if self._is_begun:
                    return True
                self._begin()
                continue
            try:
                count = connection.recvmsg_into(_first(left))[0]
            except BlockingIOError:
                return False
            if not count:
                raise ConnectionResetError("it has closed the connection")
            _drop(left, count)
            if self._is_begun:
                self.received += count

    def _begin(self) -> None:
        """Prepare for the payload that the header announces."""
        kind, length = _HEADER.unpack(self._header)
        # A defect: both ends run the same program.
        assert kind == self._kind, f"a frame of kind {kind} in place of {self._kind}"
        is_right = length <= self._most if self._target is None else length == self._most
        assert is_right, f"a frame of {length:,} bytes in place of {self._most:,}"
        if self._target is None:
            self._payload = self._make_room(length)
            self._left.extend(_views([self._payload]))
        else:
            self._payload = memoryview(b"")
            self._left.extend(_views(self._target.buffers))
        self._is_begun = True


def _views(buffers: Buffers) -> list[memoryview]:
    """Return the bytes of the buffers that are not empty, without a copy."""
    views = (buffer if isinstance(buffer, memoryview) else memoryview(buffer) for buffer in buffers)
    # Rows of a rectangle are thousands, so what are bytes already is not cast again.
    return [view if view.format == "B" and view.ndim == 1 else view.cast("B") for view in views if view.nbytes]


def _first(left: deque[memoryview]) -> list[memoryview]:
    """Return the buffers for one call of the system."""
    return list(islice(left, _MOST_BUFFERS))


def _drop(left: deque[memoryview], count: int) -> None:
    """Remove the first `count` bytes."""
    while left and count >= left[0].nbytes:
        count -= left.popleft().nbytes
    if count:
        left[0] = left[0][count:]
