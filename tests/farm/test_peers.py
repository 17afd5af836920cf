"""Connections between workers: frames of any size in any order, strangers turned away, and the tree that decides."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render.errors import PeerLost, UserError
from render.farm.peers import listening
from render.farm.peers.group import FAN_OUT, Abandoned, Group, Order, RootLink, StepReport, Team, parent_of, teams
from render.farm.peers.listening import DRIVER, TREE, Caller, Listener, connected, new_key

HOST = "127.0.0.1"


@contextmanager
def groups(
    size: int, neighbours: Callable[[int], frozenset[int]] = lambda _: frozenset()
) -> Iterator[tuple[list[Group], RootLink]]:
    """The groups of some workers in threads of this process, and the driver's link."""
    listeners = [Listener(HOST) for _ in range(size)]
    key = new_key()
    made = teams(key, [listener.address for listener in listeners], [neighbours(number) for number in range(size)])
    with ThreadPoolExecutor(size) as pool:
        begun = [pool.submit(Group, team, listener) for team, listener in zip(made, listeners, strict=True)]
        link = RootLink(key, listeners[0].address)
        found = [future.result() for future in begun]
    try:
        yield found, link
    finally:
        link.close()
        for group in found:
            group.close()
        for listener in listeners:
            listener.close()


def together(found: list[Group], work: Callable[[Group], Any]) -> list[Any]:
    """What all make of something at the same time, errors among it."""

    def attempt(group: Group) -> Any:
        try:
            return work(group)
        except (PeerLost, Abandoned) as error:
            return error

    with ThreadPoolExecutor(len(found)) as pool:
        return list(pool.map(attempt, found))


def everyone(size: int) -> Callable[[int], frozenset[int]]:
    return lambda number: frozenset(range(size)) - {number}


@given(st.integers(1, 600))
def test_every_worker_is_under_the_root_and_none_has_many_below(size: int) -> None:
    made = [Team(number, size, b"", frozenset(), {}) for number in range(size)]
    below = [child for team in made for child in team.children]
    assert sorted(below) == list(range(1, size))
    for team in made:
        assert len(team.children) <= FAN_OUT
        assert all(parent_of(child) == team.number for child in team.children)
        # Lower numbers stand above, so that nobody waits in a circle when they connect.
        assert team.parent is None or team.parent < team.number


@settings(max_examples=15)
@given(st.integers(2, 5), st.data())
def test_all_send_to_all_whatever_the_sizes(size: int, data: st.DataObject) -> None:
    """Frames that fill the system's buffers in every direction at once would block whoever sends first and reads later."""
    counts = data.draw(st.lists(st.sampled_from([0, 1, 100, 3_000_000]), min_size=size * size, max_size=size * size))

    def numbers(source: int, target: int) -> np.ndarray:
        return np.arange(counts[source * size + target], dtype=np.float32) + source - target

    def exchange(group: Group) -> dict[int, bytes]:
        me = group.team.number
        others = everyone(size)(me)
        outgoing = {other: [numbers(me, other)[:7], numbers(me, other)[7:]] for other in others}
        return {
            other: bytes(part)
            for other, part in group.exchange(outgoing, {o: numbers(o, me).nbytes for o in others}).items()
        }

    with groups(size, everyone(size)) as (found, _):
        for me, received in enumerate(together(found, exchange)):
            assert received == {other: numbers(other, me).tobytes() for other in everyone(size)(me)}


@pytest.mark.parametrize("size", [1, 2, 17, 40])
def test_rows_come_up_and_orders_go_down(size: int) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)

    def step(group: Group) -> tuple[Any, Any, Any]:
        me = group.team.number
        gathered = group.gather(np.full((me % 3, 2), me, np.float64), 2 * size)
        total = group.reduce(np.full((2, 3), me, np.int64), np.add)
        order = None if gathered is None else Order(goes_on=False, values=[0.1, gathered.tolist()], arrays=(matrix,))
        return gathered, total, group.order(order)

    with groups(size) as (found, link):
        results = together(found, step)
        found[0].report(StepReport(3, 0.5, True, False, 0.1, 2.0))
        assert link.reports(10) == [StepReport(3, 0.5, True, False, 0.1, 2.0)]
        assert link.reports(0) == []
    rows = sorted([number, number] for number in range(size) for _ in range(number % 3))
    assert sorted(results[0][0].tolist()) == rows
    assert [gathered for gathered, _, _ in results[1:]] == [None] * (size - 1)
    assert (results[0][1] == sum(range(size))).all()
    for _, _, order in results:
        assert (order.abandons, order.goes_on, order.values[0]) == (False, False, 0.1)
        assert sorted(order.values[1]) == rows
        np.testing.assert_array_equal(order.arrays[0], matrix)


def test_a_step_is_given_up_by_all_while_some_work_and_some_wait() -> None:
    """Asked for at once: those with tiles left look for it, those without wait for their parents or children."""

    def step(group: Group) -> None:
        if group.team.number % 2:
            while True:
                group.check()
                time.sleep(0.01)
        group.gather(np.zeros((1, 1)), 100)
        group.order(Order() if group.is_root else None)

    with groups(40) as (found, link), ThreadPoolExecutor(1) as pool:
        ended = pool.submit(together, found, step)
        time.sleep(0.3)
        assert not ended.done()
        link.stop(at_once=True)
        assert {type(error) for error in ended.result(20)} == {Abandoned}


def test_asked_to_stop_soon_the_root_ends_its_step() -> None:
    with groups(1) as ((root,), link):
        link.stop(at_once=False)
        assert root._tree.wait(DRIVER, 10)
        root.check()
        assert root.stops_soon


def test_who_waits_for_a_peer_that_goes_is_told() -> None:
    def step(group: Group) -> None:
        if group.team.number == 2:
            group.close()
            raise PeerLost("it has gone")
        try:
            group.exchange({}, dict.fromkeys(group.team.neighbours, 12))
        finally:
            group.close()

    with groups(4, lambda number: frozenset({(number + 1) % 4, (number - 1) % 4})) as (found, _):
        errors = together(found, step)
    assert [type(error) for error in errors] == [PeerLost] * 4
    assert any("has lost worker 3" in str(error) for error in errors)


def test_a_stranger_is_turned_away_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says nothing, one that says too much, and one with the key of another run; then the peer itself."""
    monkeypatch.setattr(listening, "_HANDSHAKE_S", 0.5)
    listener, key = Listener(HOST), new_key()
    silent = socket.create_connection(listener.address)
    loud = socket.create_connection(listener.address)
    loud.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
    refused: list[str] = []

    def connect_with_another_key() -> None:
        try:
            connected(Caller(TREE, 1), new_key(), 0, listener.address)
        except PeerLost as error:
            refused.append(str(error))

    other = threading.Thread(target=connect_with_another_key)
    other.start()
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(listener.accept, 0, key, [Caller(TREE, 1)])
        other.join()
        peer = connected(Caller(TREE, 1), key, 0, listener.address)
        found = accepted.result(20)
    assert list(found) == [Caller(TREE, 1)]
    assert len(refused) == 1
    assert "is not worker 1 of this run" in refused[0] or "has lost worker 1" in refused[0]
    for connection in (silent, loud, peer, *found.values()):
        connection.close()
    listener.close()


def test_a_peer_that_never_comes_and_one_that_cannot_be_reached_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_START_S", 0.2)
    listener = Listener(HOST)
    with pytest.raises(PeerLost, match=r"worker 1 has waited 0 s for worker 3, worker 5"):
        listener.accept(0, new_key(), [Caller(TREE, 4), Caller(TREE, 2)])
    listener.close()
    with pytest.raises(
        PeerLost, match=r"worker 2 cannot reach worker 1 at 127\.0\.0\.1:\d+ .*refused.*must reach each other"
    ):
        connected(Caller(TREE, 1), new_key(), 0, listener.address)


def test_a_frame_is_never_longer_than_is_expected() -> None:
    def step(group: Group) -> object:
        outgoing = {1: [bytes(13)]} if group.is_root else {}
        try:
            return group.exchange(outgoing, {} if group.is_root else {0: 12})
        except AssertionError as error:
            return error

    with groups(2, everyone(2)) as (found, _):
        _, error = together(found, step)
    assert "a frame of 13 bytes in place of 12" in str(error)


def test_a_child_with_much_to_send_gives_up_with_its_parent() -> None:
    """More than the system's buffers hold: the parent does not read it any more."""

    def step(group: Group) -> None:
        if group.is_root:
            while True:
                group.check()
                time.sleep(0.01)
        group.reduce(np.zeros((2, 4_000_000), np.int64), np.add)

    with groups(2) as (found, link), ThreadPoolExecutor(1) as pool:
        ended = pool.submit(together, found, step)
        time.sleep(0.5)
        assert not ended.done()
        link.stop(at_once=True)
        assert {type(error) for error in ended.result(20)} == {Abandoned}


def test_neighbours_give_up_with_the_others_even_before_any_pixel_has_come() -> None:
    """One abandons while it measures, and never sends the margin that its neighbour waits for."""

    def step(group: Group) -> None:
        while group.is_root:
            group.check()
            time.sleep(0.01)
        group.exchange({}, dict.fromkeys(group.team.neighbours, 12))

    with groups(3, everyone(3)) as (found, link), ThreadPoolExecutor(1) as pool:
        ended = pool.submit(together, found, step)
        time.sleep(0.3)
        link.stop(at_once=True)
        assert {type(error) for error in ended.result(20)} == {Abandoned}


def test_a_peer_may_begin_later_than_a_handshake_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_HANDSHAKE_S", 0.2)
    listener, key = Listener(HOST), new_key()
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(connected, Caller(TREE, 1), key, 0, listener.address)
        time.sleep(0.6)
        found = listener.accept(0, key, [Caller(TREE, 1)])
        for connection in (early.result(10), *found.values()):
            connection.close()
    listener.close()


def test_silent_strangers_hold_nobody_up() -> None:
    listener, key = Listener(HOST), new_key()
    strangers = [socket.create_connection(listener.address) for _ in range(20)]
    with ThreadPoolExecutor(1) as pool:
        peer = pool.submit(connected, Caller(TREE, 1), key, 0, listener.address)
        begun = time.monotonic()
        found = listener.accept(0, key, [Caller(TREE, 1)])
        assert time.monotonic() - begun < 4
    for connection in (*strangers, peer.result(10), *found.values()):
        connection.close()
    listener.close()


def test_a_worker_that_is_told_to_give_up_waits_for_nobody() -> None:
    """Even if the machine of the one that it waits for says nothing any more."""
    with groups(2, everyone(2)) as (found, _), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(together, found[:1], lambda group: group.exchange({}, {1: 12}))
        time.sleep(0.2)
        found[0].interrupt()
        (error,) = waiting.result(10)
    assert isinstance(error, PeerLost)


def test_a_machine_listens_at_addresses_of_both_kinds_and_behind_a_translation() -> None:
    for host in ("127.0.0.1", "::1"):
        listener = Listener(host)
        socket.create_connection(listener.address).close()
        listener.close()
    # Of documentation, so no machine's own (RFC 5737).
    behind = Listener("192.0.2.7")
    assert behind.address.host == "192.0.2.7"
    socket.create_connection((HOST, behind.address.port)).close()
    behind.close()
    with pytest.raises(UserError, match="cannot listen at no such host"):
        Listener("no such host")
