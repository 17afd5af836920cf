"""Margins that travel in threads while tiles are computed: the same bytes, whoever is late, stops or fails."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.dreaming.resample import Pixels
from render.dreaming.stage import Stage
from render.errors import PeerLost
from render.farm.messages import Assignment
from render.farm.peers.group import Group
from render.farm.worker import margins
from render.farm.worker.block import BlockArrays
from render.farm.worker.margins import MarginExchange, needed_bytes
from render.geometry.blocks import Gathering, Piece, cut_by_tiles, deal_blocks, margin_pieces, pieces_of
from render.geometry.geometry import PIXEL_BYTES, Axis, Grid, Interval, Rect
from tests.farm.test_peers import everyone, groups, together
from tests.planning.test_scale import grids
from tests.support.dream_in_process import Dream, Stop, chunks_of

#: Twenty tiles, some of which need no margin. `Ripples` look 5 px around.
WORDS = ("tiles.size=48", "tiles.halo=16", "octaves.steps=2")


@pytest.fixture(params=[False, True], ids=["at once", "in threads"])
def in_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether margins travel in threads, however few they are."""
    monkeypatch.setattr(margins, "_THREADED_BYTES", 0 if request.param else 1 << 60)
    return bool(request.param)


@pytest.mark.usefixtures("in_threads")
@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_any_number_of_workers_makes_the_same_bytes(mode: str, tmp_path: Path) -> None:
    words = (*WORDS, f"boundary.mode={mode}")
    with chunks_of(64):
        alone, _ = Dream(tmp_path / "1", *words).run(workers=1)
        for workers in (3, 8):
            canvas, _ = Dream(tmp_path / str(workers), *words).run(workers=workers)
            assert canvas.tobytes() == alone.tobytes(), workers


def test_a_run_that_stops_while_margins_travel_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margins, "_THREADED_BYTES", 0)
    with chunks_of(64):
        count = Stop()
        expected, _ = Dream(tmp_path / "whole", *WORDS).run(count, workers=3)
        for share in (0.2, 0.55, 0.9):
            stopped = Dream(tmp_path / str(share), *WORDS)
            stopped.stopped(Stop(int(share * count.calls)), workers=3)
            resumed, _ = stopped.run(workers=8)
            assert resumed.tobytes() == expected.tobytes()


@given(grids(), st.integers(2, 12), st.data())
def test_a_tile_waits_for_all_who_own_pixels_of_its_window(grid: Grid, workers: int, data: st.DataObject) -> None:
    blocks = deal_blocks(grid, workers)
    number = data.draw(st.integers(0, len(blocks) - 1))
    block = blocks[number]
    margin = Gathering.of(margin_pieces(block, blocks), number)
    cut = dict(Gathering.of(cut_by_tiles(block, margin_pieces(block, blocks)), number).others)
    needs = needed_bytes(block, cut)
    tile = data.draw(st.sampled_from(list(block.tiles())))
    jitter = data.draw(st.integers(0, grid.rows.stride - 1)), data.draw(st.integers(0, grid.columns.stride - 1))
    window = grid.window(tile, jitter)
    owners = {piece.owner for piece in pieces_of(window, blocks)}
    assert owners - {number} <= set(needs[tile.number])
    for owner, pieces in margin.others:
        # The same pixels, and nothing of the window after what the tile waits for.
        assert {spot for piece in cut[owner] for spot in spots(piece)} == {
            spot for piece in pieces for spot in spots(piece)
        }
        late = [spot for piece in cut[owner] for spot in spots(piece)][needs[tile.number].get(owner, 0) // PIXEL_BYTES :]
        assert not any(row in range(*window.rows) and column in range(*window.columns) for row, column, *_ in late)


def spots(piece: Piece) -> Iterator[tuple[int, int, int, int]]:
    """Row and column of each pixel of a piece, and those of the canvas that it repeats, in the order of a frame."""
    for row, lent_row in zip(flipped(piece.target.rows, piece.flip_rows), range(*piece.source.rows), strict=True):
        columns = zip(flipped(piece.target.columns, piece.flip_columns), range(*piece.source.columns), strict=True)
        for column, lent_column in columns:
            yield row, column, lent_row, lent_column


def flipped(interval: Interval, flip: bool) -> range:
    return range(interval.stop - 1, interval.start - 1, -1) if flip else range(*interval)


class Plain:
    """A source that is black."""

    def at(self, _shape: tuple[int, int], rect: Rect) -> Pixels:
        return np.zeros((*rect.shape, 3), np.float32)


GRID = Grid(Axis(40, 10, 2, 4, 2, "reflect"), Axis(60, 10, 2, 4, 2, "wrap"))


def blocks_of(workers: int) -> list[BlockArrays]:
    """The blocks of some workers, each filled with its pixels' own places, and its margin with -1."""
    blocks = deal_blocks(GRID, workers)
    around = [
        Gathering.of(cut_by_tiles(block, margin_pieces(block, blocks)), number) for number, block in enumerate(blocks)
    ]
    loans: list[dict[int, list[Rect]]] = [{} for _ in blocks]
    for borrower, gathering in enumerate(around):
        for owner, pieces in gathering.others:
            loans[owner][borrower] = [piece.source for piece in pieces]
    whole = np.arange(GRID.canvas.area * 3, dtype=np.float32).reshape(*GRID.canvas.shape, 3)
    arrays = []
    for number, block in enumerate(blocks):
        assignment = Assignment(number, 0, block, around[number], loans[number], Stage(1, 1.0), ())
        arrays.append(BlockArrays(assignment, Plain(), (), needs_source=False))
        arrays[-1].canvas[...] = -1
        arrays[-1].block_pixels[...] = whole[slice(*block.pixels.rows), slice(*block.pixels.columns)]
    return arrays


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Margins in threads, however few they are; all have ended afterwards."""
    monkeypatch.setattr(margins, "_THREADED_BYTES", 0)
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("margins")] == []


@pytest.mark.usefixtures("threaded")
def test_tiles_without_margin_are_ready_before_any_neighbour_has_begun() -> None:
    arrays = blocks_of(2)
    began = threading.Event()

    def step(group: Group) -> list[int]:
        number = group.team.number
        exchange = MarginExchange(arrays[number], group)
        tiles = list(arrays[number].block.tiles())
        try:
            if number:
                assert began.wait(60)
                exchange.begin()
                early = tiles
            else:
                exchange.begin()
                early = exchange.ready_tiles(tiles)
                began.set()
            left = [tile for tile in tiles if tile not in early]
            while left:
                ready = exchange.ready_tiles(left)
                left = [tile for tile in left if tile not in ready]
            exchange.finish()
        finally:
            exchange.close()
        return [tile.number for tile in early]

    with groups(2, everyone(2)) as (found, _):
        results = together(found, step)
    needs = needed_bytes(arrays[0].block, dict(arrays[0].assignment.margin.others))
    assert results[0] == [number for number, owners in needs.items() if not owners]
    assert 0 < len(results[0]) < arrays[0].block.size
    for one in arrays:
        assert (one.canvas >= 0).all(), "the margin is filled"


@pytest.mark.usefixtures("threaded")
def test_a_neighbour_that_goes_while_margins_travel_is_named() -> None:
    arrays = blocks_of(3)

    def step(group: Group) -> None:
        exchange = MarginExchange(arrays[group.team.number], group)
        try:
            if group.team.number == 2:
                group.close()
                raise PeerLost("it has gone")
            exchange.begin()
            exchange.finish()
        finally:
            exchange.close()
            group.close()

    with groups(3, everyone(3)) as (found, _):
        errors = together(found, step)
    assert [type(error) for error in errors] == [PeerLost] * 3
    assert any("has lost worker 3" in str(error) for error in errors)


class Silent:
    """A transfer of which so much has come, and no more comes. It is no use to wait for what is there."""

    def __init__(self, received: dict[int, int]) -> None:
        self._received = received

    def received(self) -> dict[int, int]:
        return self._received

    def wait(self, total: int, check: Callable[[], None]) -> None:
        assert total > sum(self._received.values()), "it returns at once, and the worker asks again for ever"
        check()


@pytest.mark.usefixtures("threaded")
def test_a_tile_that_waits_for_one_neighbour_is_given_up_whatever_others_have_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that come in part, into arrays of their own, count as what has come."""
    monkeypatch.setattr(BlockArrays, "margin_rows", lambda *_: None)
    arrays = blocks_of(4)[0]
    sizes = {
        owner: PIXEL_BYTES * sum(piece.source.area for piece in pieces) for owner, pieces in arrays.assignment.margin.others
    }
    needs = needed_bytes(arrays.block, dict(arrays.assignment.margin.others))
    asked = 0

    def give_up() -> None:
        raise PeerLost("given up")

    with groups(4, everyone(4)) as (found, _):
        monkeypatch.setattr(found[0], "check", give_up)
        exchange = MarginExchange(arrays, found[0])
        try:
            for tile in arrays.block.tiles():
                for late in needs[tile.number]:
                    sent = {owner: 0 if owner == late else size - 1 for owner, size in sizes.items()}
                    monkeypatch.setattr(found[0], "start_exchange", lambda *_, sent=sent: Silent(sent))
                    exchange.begin()
                    with pytest.raises(PeerLost):
                        exchange.ready_tiles([tile])
                    asked += 1
        finally:
            exchange._transfer = None
            exchange.close()
    assert asked > 5


@pytest.mark.usefixtures("threaded")
@pytest.mark.parametrize("fails", [False, True])
def test_a_block_is_freed_once_its_exchange_has_ended(fails: bool) -> None:
    """Without waiting for Python's collector of cycles: the next octave's block needs the memory."""
    arrays = blocks_of(4)
    canvases = [weakref.ref(one.canvas) for one in arrays]
    blocks = dict(enumerate(arrays))
    del arrays

    def step(group: Group) -> bool:
        """Returns whether a neighbour was lost: an error that is returned holds all that has led to it."""
        exchange = MarginExchange(blocks.pop(group.team.number), group)
        try:
            if fails and group.team.number:
                raise PeerLost("it has gone")
            exchange.begin()
            exchange.finish()
            return False
        except PeerLost:
            return True
        finally:
            exchange.close()
            group.close()

    gc.collect()
    gc.disable()
    try:
        with groups(4, everyone(4)) as (found, _):
            assert together(found, step) == [fails] * 4
            assert [canvas() is None for canvas in canvases] == [True] * 4
    finally:
        gc.enable()
