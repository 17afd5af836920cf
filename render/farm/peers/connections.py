"""Connections between the workers that step one canvas together: sockets that carry frames of bytes.

Workers are called by the driver through an executor, but what they tell each other in every step goes straight from one to
the other: a call through Ray costs a hundred times as much as a frame. Frames are raw numbers: nothing that comes in is
unpickled, and no frame may be longer than its receiver expects.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from render.errors import PeerLost
from render.farm.peers.frames import Buffers, FrameTarget, Receiving, Sending
from render.farm.peers.listening import peer_name

#: Milliseconds between two checks while nothing comes.
_CHECK_MS = 200
#: A peer whose machine says nothing for so long is lost: first question, interval and number of questions.
_KEEPALIVE = (20, 5, 4)


class Peers:
    """Connections of one worker, each a stream of frames.

    Both ends must send and expect the same frames in the same order.
    """

    def __init__(self, number: int, connections: Mapping[int, socket.socket]) -> None:
        """Take over the connections of worker `number`, by the number of the peer."""
        self._number = number
        #: True while a peer is waited for.
        self.is_waiting = False
        self._connections = dict(connections)
        #: Memory for each peer's payload, which is used again: new pages cost more than the bytes that are written to them.
        self._rooms = {peer: bytearray() for peer in connections}
        for connection in self._connections.values():
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in zip(("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"), _KEEPALIVE, strict=True):
                # Linux has all three.
                if hasattr(socket, option):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def exchange(
        self,
        kind: int,
        outgoing: Mapping[int, Buffers],
        incoming: Mapping[int, int | FrameTarget],
        check: Callable[[], None] | None = None,
    ) -> dict[int, memoryview]:
        """Send a frame to some peers and receive one from some, all at once, so that none waits for the order of others.

        Args:
            kind: What the frames are; both ends must agree.
            outgoing: The payload for each peer.
            incoming: The most bytes of each peer's payload, or what it fills.
            check: Called a few times a second while nothing comes; may raise to give up. Then the connections cannot be
                used any more.

        Returns:
            The payload of each peer in `incoming`, in its order. It is valid until the peer's next frame is received, and
                empty if it has filled a target.

        Raises:
            PeerLost: A connection has ended.
        """
        sending = {peer: Sending(kind, buffers) for peer, buffers in outgoing.items()}
        receiving = {peer: Receiving(kind, what, partial(self._room, peer)) for peer, what in incoming.items()}
        self.is_waiting = True
        try:
            self.transfer(sending, receiving, check)
        finally:
            self.is_waiting = False
        return {peer: one.payload for peer, one in receiving.items()}

    def transfer(
        self,
        sending: Mapping[int, Sending],
        receiving: Mapping[int, Receiving],
        check: Callable[[], None] | None = None,
        note: Callable[[], None] = lambda: None,
    ) -> None:
        """Send and receive frames; several threads may do so at once with different peers, or in different directions.

        Args:
            sending: The frame for each peer.
            receiving: The frame from each peer.
            check: As that of `exchange`.
            note: Called whenever something of a frame has been received.

        Raises:
            PeerLost: A connection has ended.
        """
        # Small frames mostly go at once, and those of quicker peers are there already.
        sends = {peer for peer in sending if not self._advance(peer, sending[peer])}
        receives = {peer for peer in receiving if not self._advance(peer, receiving[peer])}
        note()
        if sends or receives:
            self._wait_for_all(sending, sends, receiving, receives, check, note)

    def send(self, kind: int, peer: int, buffers: Buffers) -> None:
        """Send a frame to one peer. Raise `PeerLost`."""
        self.exchange(kind, {peer: buffers}, {})

    def receive(self, kind: int, peer: int, most: int) -> memoryview:
        """Return the payload of one peer's next frame, of at most `most` bytes. Raise `PeerLost`."""
        return self.exchange(kind, {}, {peer: most})[peer]

    def has_frame(self, peer: int) -> bool:
        """Return True if something of the peer's next frame is there, or the connection has ended."""
        return self.wait(peer, 0.0)

    def wait(self, peer: int, seconds: float) -> bool:
        """Wait until `has_frame`, at most `seconds`, and return that."""
        poll = select.poll()
        poll.register(self._connections[peer], select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def forget_payloads(self) -> None:
        """Free the memory of payloads; none is valid any more."""
        self._rooms = {peer: bytearray() for peer in self._rooms}

    def interrupt(self) -> None:
        """End all connections, so that nobody waits on either side. May be called from another thread."""
        for connection in list(self._connections.values()):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all connections: peers that wait for this one see that it has gone."""
        for connection in self._connections.values():
            with suppress(OSError):
                connection.close()
        self._connections.clear()

    def _room(self, peer: int, length: int) -> memoryview:
        """Return memory for a payload of a peer."""
        if length > len(self._rooms[peer]):
            self._rooms[peer] = bytearray(length)
        return memoryview(self._rooms[peer])[:length]

    def _advance(self, peer: int, transfer: Sending | Receiving) -> bool:
        """Send or receive what is possible without waiting; return True if the frame is done."""
        try:
            return transfer.advance(self._connections[peer])
        except OSError as error:
            raise PeerLost(f"{peer_name(self._number)} has lost {peer_name(peer)} ({error})") from None

    def _wait_for_all(
        self,
        sending: Mapping[int, Sending],
        sends: set[int],
        receiving: Mapping[int, Receiving],
        receives: set[int],
        check: Callable[[], None] | None,
        note: Callable[[], None],
    ) -> None:
        """Send and receive the frames of `sends` and `receives`, whichever peer is ready."""
        poll = select.poll()
        by_descriptor: dict[int, int] = {}

        def register(peer: int) -> None:
            descriptor = self._connections[peer].fileno()
            events = (select.POLLOUT if peer in sends else 0) | (select.POLLIN if peer in receives else 0)
            if events:
                poll.register(descriptor, events)
                by_descriptor[descriptor] = peer
            else:
                poll.unregister(descriptor)

        for peer in sends | receives:
            register(peer)
        interval = None if check is None else _CHECK_MS
        while sends or receives:
            ready = poll.poll(interval)
            if not ready and check is not None:
                check()
            for descriptor, events in ready:
                peer, changed = by_descriptor[descriptor], False
                # An end of the connection wakes both; reading or writing then says so.
                if peer in receives and events & ~select.POLLOUT:
                    if self._advance(peer, receiving[peer]):
                        receives.remove(peer)
                        changed = True
                    note()
                if peer in sends and events & ~select.POLLIN and self._advance(peer, sending[peer]):
                    sends.remove(peer)
                    changed = True
                if changed:
                    register(peer)
