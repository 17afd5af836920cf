"""Properties of the pure geometry: boundary maps, windows, blocks, margins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.geometry import (
    BOUNDARY_MODES,
    Axis,
    Block,
    Grid,
    Interval,
    boundary_runs,
    deal_blocks,
    margin_pieces,
    round_up,
)

MODES = st.sampled_from(["reflect", "wrap"])
STRIDES = st.sampled_from([2, 4, 8, 16, 32])


@st.composite
def axes(draw: st.DrawFn, longest: int = 900) -> Axis:
    stride = draw(STRIDES)
    return Axis(
        length=draw(st.integers(1, longest)),
        tile=draw(st.integers(16, 400)),
        halo=round_up(draw(st.integers(0, 200)), stride),
        fill=draw(st.integers(0, 120)),
        stride=stride,
        mode=draw(MODES),
    )


@given(st.integers(-90, 90), st.integers(0, 120), st.integers(1, 40), MODES)
def test_boundary_runs_are_numpys_padding(start: int, size: int, length: int, mode: str) -> None:
    interval = Interval(start, start + size)
    found: list[int] = []
    for run in boundary_runs(interval, length, mode):
        assert run.target.start == start + len(found)
        assert Interval(0, length).contains(run.source)
        pixels = list(range(*run.source))
        found += pixels[::-1] if run.reversed else pixels
    padded = np.pad(np.arange(length), 400, mode=mode)
    assert found == padded[400 + start : 400 + start + size].tolist()


@given(axes(), st.data())
def test_windows_keep_shape_phase_and_halo(axis: Axis, data: st.DataObject) -> None:
    """Every window has one length, starts on the extended canvas' grid, lies inside it, and holds tile and halo."""
    jitter = data.draw(st.integers(0, axis.stride - 1))
    extended = Interval(-axis.fill - jitter, -axis.fill - jitter + axis.extended)
    assert extended.stop >= axis.length + axis.fill
    assert axis.extended % axis.stride == 0
    for index in range(axis.tiles):
        window, core = axis.window_of(index, jitter), axis.core(index)
        assert window.size == axis.window
        assert window.size % axis.stride == 0
        assert (window.start - extended.start) % axis.stride == 0
        assert extended.contains(window)
        seen = Interval(core.start - axis.halo, core.stop + axis.halo).intersect(extended)
        assert window.contains(seen)


@given(axes())
def test_a_small_axis_is_one_untiled_window(axis: Axis) -> None:
    if axis.tile >= axis.length and axis.halo >= axis.fill + axis.stride:
        assert axis.tiles == 1
        assert axis.window == axis.extended


@given(axes())
def test_tiles_partition_the_axis(axis: Axis) -> None:
    pixels = [pixel for index in range(axis.tiles) for pixel in range(*axis.core(index))]
    assert pixels == list(range(axis.length))


grids = st.builds(Grid, axes(500), axes(500))


@given(grids, st.integers(1, 64))
def test_every_pixel_has_one_owner(grid: Grid, workers: int) -> None:
    blocks = deal_blocks(grid, workers)
    assert 1 <= len(blocks) <= workers
    owned = np.zeros(grid.canvas.shape, int)
    for block in blocks:
        owned[slice(*block.pixels.rows), slice(*block.pixels.columns)] += 1
    assert (owned == 1).all()
    tiles = [tile.number for block in blocks for tile in block.tiles()]
    assert sorted(tiles) == list(range(grid.tiles))


@given(st.integers(1, 64))
def test_dealing_uses_every_worker_where_tiles_allow(workers: int) -> None:
    axis = Axis(length=64 * 64, tile=64, halo=16, fill=32, stride=16, mode="reflect")
    blocks = deal_blocks(Grid(axis, axis), workers)
    largest = max(block.pixels.area for block in blocks)
    assert largest <= 1.35 * axis.length**2 / workers


def test_dealing_prefers_compact_blocks() -> None:
    axis = Axis(length=1024, tile=64, halo=16, fill=32, stride=16, mode="reflect")
    shapes = {block.pixels.shape for block in deal_blocks(Grid(axis, axis), 4)}
    assert shapes == {(512, 512)}


def padded_by_pieces(block: Block, blocks: tuple[Block, ...], canvas: np.ndarray) -> np.ndarray:
    """The padded block as a worker assembles it: its own pixels and pieces of others'."""
    padded = np.full((*block.padded.shape, 1), -1.0)
    padded[block.pixels.slices_from(block.padded)] = canvas[slice(*block.pixels.rows), slice(*block.pixels.columns)]
    for piece in margin_pieces(block, blocks):
        owner = blocks[piece.owner].pixels
        assert owner.intersect(piece.source) == piece.source
        values = canvas[slice(*piece.source.rows), slice(*piece.source.columns)]
        target = padded[piece.target.slices_from(block.padded)]
        assert (target == -1).all(), "two pieces overlap"
        target[...] = values[:: -1 if piece.flip_rows else 1, :: -1 if piece.flip_columns else 1]
    return padded[..., 0]


@given(st.data(), st.sampled_from(sorted(BOUNDARY_MODES)), st.integers(1, 64))
def test_margins_hold_what_the_boundary_says(data: st.DataObject, boundary: str, workers: int) -> None:
    """Whoever owns what, each padded block is the same cut of the canvas padded by NumPy."""
    stride = data.draw(STRIDES)
    halo = round_up(data.draw(st.integers(0, 80)), stride)
    fill = data.draw(st.integers(0, 80))
    rows, columns = (
        Axis(data.draw(st.integers(8, 150)), data.draw(st.integers(16, 100)), halo, fill, stride, mode)
        for mode in BOUNDARY_MODES[boundary]
    )
    grid = Grid(rows, columns)
    canvas = np.arange(grid.canvas.area, dtype=float).reshape(*grid.canvas.shape, 1)
    reach = 600
    everything = np.pad(canvas[..., 0], ((reach, reach), (0, 0)), mode=rows.mode)
    everything = np.pad(everything, ((0, 0), (reach, reach)), mode=columns.mode)
    blocks = deal_blocks(grid, workers)
    for block in blocks[:: max(1, len(blocks) // 4)]:
        expected = everything[
            block.padded.rows.start + reach : block.padded.rows.stop + reach,
            block.padded.columns.start + reach : block.padded.columns.stop + reach,
        ]
        np.testing.assert_array_equal(padded_by_pieces(block, blocks, canvas), expected)


@given(axes(), st.data())
def test_padded_blocks_hold_every_window(axis: Axis, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, axis.tiles - 1))
    last = data.draw(st.integers(first, axis.tiles - 1))
    span = axis.span_of(first, last)
    for jitter in range(axis.stride):
        for index in range(first, last + 1):
            assert span.contains(axis.window_of(index, jitter))


def test_no_workers_is_a_mistake() -> None:
    axis = Axis(length=64, tile=64, halo=16, fill=32, stride=16, mode="reflect")
    with pytest.raises(ValueError, match="0 workers"):
        deal_blocks(Grid(axis, axis), 0)
