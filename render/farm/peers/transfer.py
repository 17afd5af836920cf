"""Frames that travel between neighbours in threads, while the worker that exchanges them does other work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from render.farm.peers.connections import Peers
from render.farm.peers.frames import Buffers, FrameTarget, Receiving, Sending

#: Seconds between two looks of a worker that waits.
_LOOK_S = 0.2


class _Cancelled(Exception):
    """The frames are not wanted any more."""


class Transfer:
    """Frames to and from neighbours, on their way.

    Some threads send, each to one neighbour after the other; the others receive, each from several at once. So every
    neighbour's frame is read while this worker's own wait to be read, and nobody waits in a circle.
    """

    def __init__(
        self,
        peers: Peers,
        kind: int,
        outgoing: Mapping[int, Callable[[], Buffers]],
        incoming: Mapping[int, FrameTarget],
        pool: ThreadPoolExecutor,
        lanes: int,
    ) -> None:
        """Begin.

        Args:
            peers: The connections; nobody else may use them until the transfer has ended.
            kind: What the frames are.
            outgoing: For each neighbour, a function that returns what it gets; called in a thread. First come first served.
            incoming: For each neighbour, what its frame fills.
            pool: Has `2 * lanes` threads for this transfer alone.
            lanes: Number of threads for either direction.
        """
        self._peers = peers
        self._kind = kind
        self._changed = threading.Condition()
        self._is_cancelled = False
        sends = [list(outgoing.items())[lane::lanes] for lane in range(min(lanes, len(outgoing)))]
        self._running: list[Future[None]] = [pool.submit(self._send, frames) for frames in sends]
        self._receiving = {peer: Receiving(kind, target) for peer, target in incoming.items()}
        self._running += [pool.submit(self._receive, peers) for peers in _shares(incoming, lanes)]
        for future in self._running:
            future.add_done_callback(self._note_end)

    def received(self) -> dict[int, int]:
        """Return how many bytes of each neighbour's frame are there. Raise `PeerLost`."""
        self._raise_failure()
        return {peer: frame.received for peer, frame in self._receiving.items()}

    def wait(self, total: int, check: Callable[[], None]) -> None:
        """Wait until so many bytes are there of all frames together.

        Args:
            total: Bytes.
            check: Called a few times a second meanwhile; may raise to give up.

        Raises:
            PeerLost: A connection has ended.
        """
        self._wait(lambda: sum(frame.received for frame in self._receiving.values()) >= total, check)

    def finish(self, check: Callable[[], None]) -> None:
        """Wait until all frames are sent and received: see `wait`."""
        self._wait(lambda: all(future.done() for future in self._running), check)
        # Futures refer to this object, which refers to the buffers: a cycle would keep the canvas.
        self._running.clear()

    def cancel(self) -> None:
        """Give up, and wait until no buffer is used any more. The connections cannot be used afterwards."""
        self._is_cancelled = True
        for future in self._running:
            future.exception()
        self._running.clear()

    def _wait(self, is_over: Callable[[], bool], check: Callable[[], None]) -> None:
        self._peers.is_waiting = True
        try:
            while True:
                self._raise_failure()
                with self._changed:
                    if is_over() or self._changed.wait_for(lambda: is_over() or self._has_failed, _LOOK_S):
                        break
                check()
            self._raise_failure()
        finally:
            self._peers.is_waiting = False

    @property
    def _has_failed(self) -> bool:
        return any(future.done() and future.exception() is not None for future in self._running)

    def _raise_failure(self) -> None:
        for future in self._running:
            if future.done():
                try:
                    future.result()
                finally:
                    # The error's traceback holds it, and it the error.
                    del future

    def _send(self, frames: Sequence[tuple[int, Callable[[], Buffers]]]) -> None:
        for peer, read in frames:
            self._peers.transfer({peer: Sending(self._kind, read())}, {}, self._check)

    def _receive(self, peers: Sequence[int]) -> None:
        self._peers.transfer({}, {peer: self._receiving[peer] for peer in peers}, self._check, self._note)

    def _check(self) -> None:
        if self._is_cancelled:
            raise _Cancelled

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _note_end(self, _future: Future[None]) -> None:
        self._note()


def _shares(incoming: Mapping[int, FrameTarget], lanes: int) -> list[list[int]]:
    """Return the neighbours shared out to at most `lanes` threads, about as many bytes to each."""
    shares: list[list[int]] = [[] for _ in range(min(lanes, len(incoming)))]
    loads = [0] * len(shares)
    for peer in sorted(incoming, key=lambda peer: -incoming[peer].nbytes):
        least = loads.index(min(loads))
        shares[least].append(peer)
        loads[least] += incoming[peer].nbytes
    return shares
