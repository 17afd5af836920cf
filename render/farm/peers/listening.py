"""Ports of workers, and the handshake by which peers of one run of steps know each other.

The driver makes the key of a run and sends it to its workers alone. Whoever connects proves that it knows the key, and is
shown the same. The proofs are HMAC-SHA256 over random challenges of both sides.
"""

from __future__ import annotations

import errno
import hmac
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterable
from typing import NamedTuple

from render.errors import PeerLost, UserError

#: Number of the driver among the peers of a run.
DRIVER = 0xFFFFFFFF
#: What a connection is for: pixels between neighbours, or what goes up and down the tree.
PIXELS, TREE = 0, 1
_KEY_BYTES, _NONCE_BYTES, _DIGEST_BYTES = 32, 16, 32
_DIGEST = "sha256"
_CALLER = struct.Struct("!BI")
#: Seconds for a caller's part of a handshake, and for a peer to begin its steps after this one has.
_HANDSHAKE_S, _START_S = 5.0, 60.0
#: Callers that have not proved anything yet, at most; the oldest is turned away first.
_MOST_PENDING = 1024


class Address(NamedTuple):
    """Address at which a worker listens: its machine's, as other machines of the cluster know it, and a port."""

    host: str
    port: int


class Caller(NamedTuple):
    """Peer that connects, and what for."""

    purpose: int
    number: int


def new_key() -> bytes:
    """Return the key of a new run."""
    return secrets.token_bytes(_KEY_BYTES)


def peer_name(number: int) -> str:
    """Return the name of a peer for messages."""
    return "the driver" if number == DRIVER else f"worker {number + 1}"


class Listener:
    """Port of this process, open as long as the process lives."""

    def __init__(self, host: str) -> None:
        """Listen on a free port of this machine's address `host`.

        An address that the machine does not have itself, as behind a translation of addresses, stands for all of its own.

        Raises:
            UserError: The machine cannot listen there.
        """
        try:
            family = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][0]
            try:
                self._socket = socket.create_server((host, 0), family=family, backlog=1024)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                self._socket = socket.create_server(("", 0), family=family, backlog=1024)
        except OSError as error:
            raise UserError(
                f"a worker cannot listen at {host} ({error}): see how Ray was given this machine's address"
            ) from None
        self._socket.setblocking(False)
        self.address = Address(host, self._socket.getsockname()[1])

    def accept(self, number: int, key: bytes, expected: Iterable[Caller]) -> dict[Caller, socket.socket]:
        """Return the connections of the callers that are expected, once all have proved that they know the key.

        Others that connect, such as those of a run that was given up, are turned away, and hold nobody up.

        Args:
            number: Number of this worker, for messages.
            key: The run's key.
            expected: The callers.

        Raises:
            PeerLost: They have not come within a minute.
        """
        missing, admitted = set(expected), dict[Caller, socket.socket]()
        pending: dict[int, _Admission] = {}
        deadline = time.monotonic() + _START_S
        try:
            while missing:
                self._await_any(pending, deadline)
                for descriptor, admission in list(pending.items()):
                    if not admission.advance():
                        continue
                    del pending[descriptor]
                    if admission.caller in missing:
                        missing.remove(admission.caller)
                        admitted[admission.caller] = admission.connection
                    else:
                        admission.connection.close()
                if missing and time.monotonic() >= deadline:
                    names = ", ".join(peer_name(one) for one in sorted({caller.number for caller in missing}))
                    raise PeerLost(f"{peer_name(number)} has waited {_START_S:.0f} s for {names}")
                self._take_callers(pending, key)
        except BaseException:
            for connection in admitted.values():
                connection.close()
            raise
        finally:
            for admission in pending.values():
                admission.connection.close()
        return admitted

    def close(self) -> None:
        """Close the port."""
        self._socket.close()

    def _await_any(self, pending: dict[int, _Admission], deadline: float) -> None:
        """Wait until somebody connects or answers, or for a moment."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        for descriptor in pending:
            poll.register(descriptor, select.POLLIN)
        limits = [deadline, *(admission.deadline for admission in pending.values())]
        poll.poll(max(0.0, 1000 * (min(limits) - time.monotonic())) + 1)

    def _take_callers(self, pending: dict[int, _Admission], key: bytes) -> None:
        """Begin a handshake with everybody who has connected."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            # It has gone again.
            except ConnectionError:
                continue
            if len(pending) >= _MOST_PENDING:
                pending.pop(next(iter(pending))).connection.close()
            pending[connection.fileno()] = _Admission(connection, key)


class _Admission:
    """Handshake with one caller, which may be anybody.

    Attributes:
        connection: The connection.
        deadline: Time by `time.monotonic` at which the caller is turned away.
        caller: The caller, once it has proved that it knows the key.
    """

    def __init__(self, connection: socket.socket, key: bytes) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.deadline = time.monotonic() + _HANDSHAKE_S
        self.caller: Caller | None = None
        self._key = key
        self._claimed: Caller | None = None
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._received = bytearray()

    def advance(self) -> bool:
        """Read what is there, and answer. Return True if the handshake has ended, well or not."""
        try:
            return self._advance() or time.monotonic() >= self.deadline
        except OSError:
            return True

    def _advance(self) -> bool:
        while True:
            wanted = _DIGEST_BYTES if self._claimed else _CALLER.size + _NONCE_BYTES
            try:
                part = self.connection.recv(wanted - len(self._received))
            except BlockingIOError:
                return False
            if not part:
                return True
            self._received += part
            if len(self._received) < wanted:
                continue
            message, self._received = bytes(self._received), bytearray()
            if self._claimed:
                if hmac.compare_digest(message, _proof(self._key, b"connects", self._claimed, self._nonce)):
                    self.caller = self._claimed
                return True
            self._claimed = Caller(*_CALLER.unpack(message[: _CALLER.size]))
            proof = _proof(self._key, b"accepts", self._claimed, message[_CALLER.size :])
            # So little fits into the buffer of a new connection.
            self.connection.sendall(self._nonce + proof)


def connected(caller: Caller, key: bytes, peer: int, address: Address) -> socket.socket:
    """Return a connection to a peer, which has proved that it knows the key.

    Args:
        caller: The peer that connects, which is this one.
        key: The run's key.
        peer: Number of the peer, for messages.
        address: Where it listens.

    Raises:
        PeerLost: It cannot be reached, does not begin its steps within a minute, or has another key.
    """
    name = peer_name(caller.number)
    try:
        connection = socket.create_connection(address, timeout=_START_S)
    except OSError as error:
        raise PeerLost(
            f"{name} cannot reach {peer_name(peer)} at {address.host}:{address.port} ({error}): the machines of a cluster "
            "must reach each other on all ports"
        ) from None
    try:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        connection.sendall(_CALLER.pack(*caller) + nonce)
        # It answers once it begins its steps.
        answer = _read(connection, _NONCE_BYTES + _DIGEST_BYTES)
        theirs, digest = answer[:_NONCE_BYTES], answer[_NONCE_BYTES:]
        if not hmac.compare_digest(digest, _proof(key, b"accepts", caller, nonce)):
            raise PeerLost(f"{address.host}:{address.port} is not {peer_name(peer)} of this run")
        connection.sendall(_proof(key, b"connects", caller, theirs))
    except OSError as error:
        connection.close()
        raise PeerLost(f"{name} has lost {peer_name(peer)} at {address.host} ({error})") from None
    except PeerLost:
        connection.close()
        raise
    return connection


def _proof(key: bytes, role: bytes, caller: Caller, nonce: bytes) -> bytes:
    return hmac.digest(key, role + _CALLER.pack(*caller) + nonce, _DIGEST)


def _read(connection: socket.socket, count: int) -> bytes:
    """Return `count` bytes. Raise `OSError` if the connection ends before."""
    data = bytearray()
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionResetError("the connection was closed")
        data += part
    return bytes(data)
