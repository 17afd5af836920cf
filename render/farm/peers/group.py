"""The workers that step one canvas together, as one of them sees it: exchanges, sums up a tree, orders down.

Worker 0 is the root. The others stand below it in a tree, whose nodes have up to 16 children, so that no worker takes part
in more than a few transfers, however many there are. What the root decides, such as a step's divisors, all workers get.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from render.farm.peers.connections import Peers
from render.farm.peers.frames import Buffers, FrameTarget
from render.farm.peers.listening import DRIVER, PIXELS, TREE, Address, Caller, Listener, connected
from render.farm.peers.transfer import Transfer
from render.planning.deal import FAN_OUT

#: Kinds of frames: pixels between neighbours, rows up the tree, orders down the tree, and between driver and root.
_PIXELS, _ROWS, _ORDER, _REPORT, _REQUEST = range(1, 6)
#: Most bytes of an order without arrays, and of a report or a request.
_MOST_ORDER_BYTES = 1 << 28
_MOST_SMALL_BYTES = 256


@dataclass(frozen=True)
class Team:
    """The peers of one run of steps, as one worker needs to know them.

    Attributes:
        number: The worker's number.
        size: Number of workers.
        key: The run's key; no other process may know it.
        neighbours: Numbers of the workers with which it exchanges pixels.
        addresses: Where the peers listen that it connects to: those with lower numbers.
    """

    number: int
    size: int
    key: bytes = field(repr=False)
    neighbours: frozenset[int]
    addresses: Mapping[int, Address]

    @property
    def parent(self) -> int | None:
        """The worker above in the tree; None for the root."""
        return parent_of(self.number)

    @property
    def children(self) -> range:
        """The workers below in the tree."""
        first = self.number * FAN_OUT + 1
        return range(min(first, self.size), min(first + FAN_OUT, self.size))

    @property
    def callers(self) -> list[Caller]:
        """Who connects to this worker: peers with higher numbers, and to the root the driver."""
        return [
            *(Caller(PIXELS, peer) for peer in self.neighbours if peer > self.number),
            *(Caller(TREE, peer) for peer in self.children),
            *([] if self.number else [Caller(TREE, DRIVER)]),
        ]

    @property
    def called(self) -> list[Caller]:
        """Whom this worker connects to: peers with lower numbers."""
        above = [] if self.parent is None else [Caller(TREE, self.parent)]
        return [*(Caller(PIXELS, peer) for peer in self.neighbours if peer < self.number), *above]


def parent_of(number: int) -> int | None:
    """Return the worker above `number` in the tree; None for the root."""
    return (number - 1) // FAN_OUT if number else None


def teams(key: bytes, addresses: Sequence[Address], neighbours: Sequence[frozenset[int]]) -> list[Team]:
    """Return every worker's team, from where each listens and the neighbours of each."""
    plain = [Team(number, len(addresses), key, around, {}) for number, around in enumerate(neighbours)]
    return [replace(team, addresses={peer: addresses[peer] for _, peer in team.called}) for team in plain]


class Abandoned(Exception):
    """The current step is to be given up before any worker updates its block."""


class StepReport(NamedTuple):
    """Report of the root to the driver on its progress.

    Attributes:
        step: Index of the step.
        share: Share of the root's tiles that have their gradient.
        is_step: True if the step is done; else mean and seconds do not count.
        goes_on: False after the last step for now.
        mean: Mean over the regions of mean|g|, or of the normalisation in use.
        seconds: Time that the step took.
    """

    step: int
    share: float
    is_step: bool = False
    goes_on: bool = True
    mean: float = 0.0
    seconds: float = 0.0

    @classmethod
    def read(cls, payload: memoryview) -> StepReport:
        """Return the report that `Group.report` has sent."""
        step, share, is_step, goes_on, mean, seconds = np.frombuffer(payload, np.float64).tolist()
        return cls(int(step), share, bool(is_step), bool(goes_on), mean, seconds)


@dataclass(frozen=True)
class Order:
    """Decision of the root, for all workers.

    Attributes:
        abandons: If true, the step is given up; the rest does not count.
        goes_on: If false, this step is the last for now.
        values: Numbers, as JSON can hold them.
        arrays: Arrays that belong to these.
    """

    abandons: bool = False
    goes_on: bool = True
    values: Any = None
    arrays: tuple[NDArray[np.float32], ...] = ()


class Group:
    """One worker's connections to the others of its team, and the root's to the driver."""

    def __init__(self, team: Team, listener: Listener) -> None:
        """Connect to the peers. Raise `PeerLost` if one cannot be reached."""
        self.team = team
        with ExitStack() as opened:
            sockets: dict[Caller, socket.socket] = {}
            for purpose, peer in team.called:
                connection = connected(Caller(purpose, team.number), team.key, peer, team.addresses[peer])
                sockets[Caller(purpose, peer)] = opened.enter_context(connection)
            sockets |= listener.accept(team.number, team.key, team.callers)
            # From here on, the peers close them.
            opened.pop_all()
        self._neighbours, self._tree = (
            Peers(
                team.number,
                {caller.number: connection for caller, connection in sockets.items() if caller.purpose == purpose},
            )
            for purpose in (PIXELS, TREE)
        )
        #: True once the root has been asked to stop after the current step.
        self.stops_soon = False

    @property
    def is_root(self) -> bool:
        """True if this worker decides."""
        return self.team.number == 0

    @property
    def is_waiting(self) -> bool:
        """True while a peer is waited for. May be asked from another thread."""
        return self._neighbours.is_waiting or self._tree.is_waiting

    def exchange(self, outgoing: Mapping[int, Buffers], incoming: Mapping[int, int | FrameTarget]) -> dict[int, memoryview]:
        """Send pixels to neighbours and receive theirs.

        Args:
            outgoing: Buffers for each neighbour, such as C-contiguous arrays.
            incoming: Bytes that come from each neighbour, or what they fill.

        Raises:
            PeerLost: A neighbour has gone.
            Abandoned: The step is given up.
        """
        return self._neighbours.exchange(_PIXELS, outgoing, incoming, self.check)

    def start_exchange(
        self,
        outgoing: Mapping[int, Callable[[], Buffers]],
        incoming: Mapping[int, FrameTarget],
        pool: ThreadPoolExecutor,
        lanes: int,
    ) -> Transfer:
        """Begin to send pixels to neighbours and to receive theirs, in threads: see `Transfer`."""
        return Transfer(self._neighbours, _PIXELS, outgoing, incoming, pool, lanes)

    def gather(self, rows: NDArray[np.float64], most_rows: int) -> NDArray[np.float64] | None:
        """Bring the rows of all workers to the root.

        Args:
            rows: (n, columns) float64 of this worker; every worker has the same columns.
            most_rows: Number of rows of all workers together, at most.

        Returns:
            At the root, the rows of all workers in any order; None elsewhere.

        Raises:
            PeerLost: A worker has gone.
            Abandoned: The step is given up.
        """
        columns = rows.shape[1]
        most = 8 * columns * most_rows
        below = self._tree.exchange(_ROWS, {}, dict.fromkeys(self.team.children, most), self.check)
        parts = [rows, *(np.frombuffer(payload, np.float64).reshape(-1, columns) for payload in below.values())]
        gathered = np.ascontiguousarray(np.concatenate(parts))
        if self.team.parent is None:
            return gathered
        # A parent that gives the step up does not read it.
        self._tree.exchange(_ROWS, {self.team.parent: [gathered]}, {}, self.check)
        return None

    def reduce(
        self, sums: NDArray[np.int64], add: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
    ) -> NDArray[np.int64]:
        """Bring the sum over all workers to the root; elsewhere the result is that of the workers below.

        Args:
            sums: Integers of this worker; every worker has the same shape.
            add: Adds two of them; the grouping must not matter.
        """
        below = self._tree.exchange(_ROWS, {}, dict.fromkeys(self.team.children, sums.nbytes), self.check)
        for payload in below.values():
            sums = add(sums, np.frombuffer(payload, np.int64).reshape(sums.shape))
        if self.team.parent is not None:
            self._tree.exchange(_ROWS, {self.team.parent: [np.ascontiguousarray(sums)]}, {}, self.check)
        return sums

    def order(self, order: Order | None = None) -> Order:
        """Give the root's order to all workers, and return it.

        Args:
            order: At the root, the order; elsewhere None.

        Raises:
            PeerLost: A worker has gone.
            Abandoned: The step is given up.
        """
        if self.team.parent is not None:
            payload = self._tree.receive(_ORDER, self.team.parent, _MOST_ORDER_BYTES)
        else:
            assert order is not None, "the root orders"
            payload = memoryview(_packed(order))
        self._tree.exchange(_ORDER, {child: [payload] for child in self.team.children}, {})
        received = _unpacked(payload)
        if received.abandons:
            raise Abandoned
        return received

    def check(self) -> None:
        """Raise `Abandoned` if the step is to be given up, and tell those below.

        The root gives it up if the driver asks for that, the others if their parents say so.
        """
        if self.team.parent is not None:
            if self._tree.has_frame(self.team.parent):
                self.order()
                raise AssertionError("only an order to give up comes here")
            return
        while self._tree.has_frame(DRIVER):
            at_once = bytes(self._tree.receive(_REQUEST, DRIVER, _MOST_SMALL_BYTES)) == b"now"
            self.stops_soon = True
            if at_once:
                self.order(Order(abandons=True))

    def report(self, report: StepReport) -> None:
        """Tell the driver how far the root is; only the root may."""
        self._tree.send(_REPORT, DRIVER, [np.array(report, np.float64)])

    def interrupt(self) -> None:
        """End all connections: whoever waits in one raises `PeerLost`. May be called from another thread."""
        self._neighbours.interrupt()
        self._tree.interrupt()

    def end(self) -> None:
        """Free memory after the last step. The connections stay open: peers may still read what came last."""
        self._neighbours.forget_payloads()
        self._tree.forget_payloads()

    def close(self) -> None:
        """Close the connections."""
        self._neighbours.close()
        self._tree.close()


class RootLink:
    """The driver's connection to the root of a run."""

    def __init__(self, key: bytes, address: Address) -> None:
        """Connect to the root, which listens at `address`. Raise `PeerLost`."""
        self._peers = Peers(DRIVER, {0: connected(Caller(TREE, DRIVER), key, 0, address)})

    def reports(self, seconds: float) -> list[StepReport]:
        """Return what the root has told since the last call; wait for the first at most `seconds`. Raise `PeerLost`."""
        reports: list[StepReport] = []
        while self._peers.wait(0, 0.0 if reports else seconds):
            payload = self._peers.receive(_REPORT, 0, _MOST_SMALL_BYTES)
            reports.append(StepReport.read(payload))
        return reports

    def stop(self, *, at_once: bool) -> None:
        """Have all workers stop: after the step in hand, or at once if it may still be given up. Raise `PeerLost`."""
        self._peers.send(_REQUEST, 0, [b"now" if at_once else b"soon"])

    def close(self) -> None:
        """Close the connection."""
        self._peers.close()


def _packed(order: Order) -> bytes:
    """Return an order as bytes: JSON, and behind it the arrays' numbers."""
    head = json.dumps([order.abandons, order.goes_on, order.values, [array.shape for array in order.arrays]]).encode()
    return b"".join(
        [len(head).to_bytes(4, "big"), head, *(np.ascontiguousarray(array).tobytes() for array in order.arrays)]
    )


def _unpacked(payload: memoryview) -> Order:
    """Return the order that `_packed` wrote."""
    start = 4 + int.from_bytes(payload[:4], "big")
    abandons, goes_on, values, shapes = json.loads(bytes(payload[4:start]))
    arrays = []
    for shape in shapes:
        count = int(np.prod(shape))
        arrays.append(np.frombuffer(payload, np.float32, count, start).reshape(shape).copy())
        start += 4 * count
    return Order(abandons, goes_on, values, tuple(arrays))
