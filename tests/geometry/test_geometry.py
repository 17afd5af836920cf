"""Properties of the pure geometry: boundary maps, windows, blocks, margins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.geometry.blocks import Block, Gathering, chunk_extent, deal_blocks, margin_pieces, pieces_of
from render.geometry.geometry import BAND, BOUNDARY_MODES, Axis, Grid, Interval, Rect, boundary_runs, round_up, whole

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
    pixels_in_order: list[int] = []
    for run in boundary_runs(interval, length, mode):
        assert run.target.start == start + len(pixels_in_order)
        assert Interval(0, length).contains(run.source)
        pixels = list(range(*run.source))
        pixels_in_order += pixels[::-1] if run.reversed else pixels
    padded = np.pad(np.arange(length), 400, mode=mode)
    assert pixels_in_order == padded[400 + start : 400 + start + size].tolist()


@given(axes(), st.data())
def test_windows_keep_shape_phase_and_halo(axis: Axis, data: st.DataObject) -> None:
    """Windows have one length, start on the extended canvas' grid, and hold tile and halo."""
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
intervals = st.builds(lambda start, size: Interval(start, start + size), st.integers(-500, 500), st.integers(0, 300))
rects = st.builds(Rect, intervals, intervals)


@given(rects, st.integers(1, 5000), st.integers(1, 40))
def test_bands_cover_a_rectangle_exactly_once(rect: Rect, pixels: int, multiple: int) -> None:
    """In order of rows and columns, from multiples, and as small as asked for if possible."""
    covered = np.zeros(rect.shape, int)
    bands = list(rect.bands(pixels, multiple))
    for band in bands:
        assert band.area, "an empty band"
        assert rect.intersect(band) == band
        covered[band.slices_from(rect)] += 1
        assert (band.rows.start - rect.rows.start) % multiple == 0
        assert (band.columns.start - rect.columns.start) % multiple == 0
        assert band.area <= max(pixels, multiple * min(multiple, rect.columns.size))
    assert (covered == 1).all()
    assert bands == sorted(bands, key=lambda band: (band.rows.start, band.columns.start))


@given(rects, st.integers(1, 5000), st.integers(1, 40))
def test_bands_are_of_whole_rows_where_rows_fit(rect: Rect, pixels: int, multiple: int) -> None:
    if rect.area and multiple * rect.columns.size <= pixels:
        bands = list(rect.bands(pixels, multiple))
        assert all(band.columns == rect.columns for band in bands)
        # And as few as that makes them.
        assert len(bands) == -(-rect.rows.size // (pixels // rect.columns.size // multiple * multiple))


def test_bands_of_a_gigapixel_are_small() -> None:
    """With whole chunks of a store, too."""
    canvas = whole(30_001, 40_003)
    for multiple in (1, 512):
        bands = list(canvas.bands(multiple=multiple))
        assert max(band.area for band in bands) <= BAND
        assert sum(band.area for band in bands) == canvas.area


@given(rects)
def test_an_empty_rectangle_has_no_bands(rect: Rect) -> None:
    for empty in (Rect(rect.rows, Interval(3, 3)), Rect(Interval(3, 3), rect.columns)):
        assert list(empty.bands()) == []


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


@given(grids, st.integers(1, 64), st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_an_arrangement_is_kept_while_there_are_workers_for_it(
    grid: Grid, workers: int, arrangement: tuple[int, int]
) -> None:
    """As many rows and columns of blocks as asked for, or as there are tiles.

    With too few workers the best arrangement is used.
    """
    blocks = deal_blocks(grid, workers, arrangement)
    if arrangement[0] * arrangement[1] > workers:
        assert blocks == deal_blocks(grid, workers)
        return
    rows, columns = (sorted({part[axis] for part in (block.pixels for block in blocks)}) for axis in (0, 1))
    assert len(rows) == min(arrangement[0], grid.rows.tiles)
    assert len(columns) == min(arrangement[1], grid.columns.tiles)
    # Row by row, and every pixel owned once.
    assert [block.pixels for block in blocks] == [Rect(row, column) for row in rows for column in columns]
    for parts, length in ((rows, grid.rows.length), (columns, grid.columns.length)):
        assert (parts[0].start, parts[-1].stop) == (0, length)
        assert all(before.stop == after.start for before, after in zip(parts, parts[1:], strict=False))
    for sizes in ([block.tile_rows.size for block in blocks], [block.tile_columns.size for block in blocks]):
        assert max(sizes) - min(sizes) <= 1


@given(grids, st.integers(1, 64))
def test_the_arrangement_that_dealing_finds_is_the_best(grid: Grid, workers: int) -> None:
    """No other has fewer tiles on its busiest worker."""
    busiest = max(block.size for block in deal_blocks(grid, workers))
    for down in range(1, workers + 1):
        assert busiest <= max(block.size for block in deal_blocks(grid, workers, (down, workers // down)))


@given(grids, st.integers(1, 9), st.data())
def test_calls_for_parts_of_a_block_cover_its_tiles(grid: Grid, workers: int, data: st.DataObject) -> None:
    """In tile order, whatever the parts, and nothing beyond the end."""
    block = data.draw(st.sampled_from(deal_blocks(grid, workers)))
    tiles = list(block.tiles())
    assert len(tiles) == block.size
    assert tiles == sorted(tiles)
    first, covered = 0, []
    while first < block.size:
        count = data.draw(st.integers(1, block.size))
        part = list(block.tiles_from(first, count))
        assert len(part) == min(count, block.size - first)
        covered += part
        first += count
    assert covered == tiles
    assert list(block.tiles_from(block.size, 5)) == list(block.tiles_from(0, 0)) == []
    owned = np.zeros(block.pixels.shape, int)
    for tile in tiles:
        owned[grid.core(tile).slices_from(block.pixels)] += 1
    assert (owned == 1).all()


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


@given(st.data(), st.sampled_from(sorted(BOUNDARY_MODES)), st.integers(1, 64))
def test_a_gathering_is_all_pieces_owner_by_owner(data: st.DataObject, boundary: str, workers: int) -> None:
    """Of a margin or of any rectangle, as the next octave and the chunks of a store ask for."""
    rows, columns = (
        Axis(data.draw(st.integers(8, 300)), data.draw(st.integers(16, 100)), 32, 16, 8, mode)
        for mode in BOUNDARY_MODES[boundary]
    )
    blocks = deal_blocks(Grid(rows, columns), workers)
    number = data.draw(st.integers(0, len(blocks) - 1))
    rect = data.draw(rects)
    for pieces in (margin_pieces(blocks[number], blocks), list(pieces_of(rect, blocks))):
        gathering = Gathering.of(pieces, number)
        owners = [owner for owner, _ in gathering.others]
        assert owners == sorted(set(owners) - {number})
        assert all(piece.owner == number for piece in gathering.own)
        assert all(piece.owner == owner for owner, theirs in gathering.others for piece in theirs)
        assert all(theirs for _, theirs in gathering.others), "a call for nothing"
        # Within an owner in the order they came in: what is asked for and what is written must agree.
        for owner, theirs in (*gathering.others, (number, gathering.own)):
            assert list(theirs) == [piece for piece in pieces if piece.owner == owner]
        assert sum(len(theirs) for _, theirs in gathering.others) + len(gathering.own) == len(pieces)
        everything = sum(piece.target.area for piece in pieces)
        assert gathering.foreign_pixels == everything - sum(piece.target.area for piece in gathering.own)


@given(rects, grids, st.integers(1, 64))
def test_pieces_cover_a_rectangle_exactly_once(rect: Rect, grid: Grid, workers: int) -> None:
    covered = np.zeros(rect.shape, int)
    blocks = deal_blocks(grid, workers)
    for piece in pieces_of(rect, blocks):
        assert piece.source.shape == piece.target.shape
        assert blocks[piece.owner].pixels.intersect(piece.source) == piece.source
        assert rect.intersect(piece.target) == piece.target
        covered[piece.target.slices_from(rect)] += 1
    assert (covered == 1).all()


def test_one_worker_alone_gathers_nothing_from_others() -> None:
    axis = Axis(length=333, tile=64, halo=48, fill=32, stride=16, mode="reflect")
    blocks = deal_blocks(Grid(axis, axis), 1)
    gathering = Gathering.of(margin_pieces(blocks[0], blocks), 0)
    assert gathering.others == ()
    assert gathering.foreign_pixels == 0
    assert sum(piece.target.area for piece in gathering.own) == blocks[0].padded.area - blocks[0].pixels.area


@st.composite
def dealt(draw: st.DrawFn) -> tuple[Block, ...]:
    """Draw blocks for any number of workers, with or without an arrangement."""
    grid = draw(grids)
    workers = draw(st.integers(1, 64))
    down = draw(st.integers(0, workers))
    return deal_blocks(grid, workers, (down, workers // down) if down else None)


@given(dealt(), st.integers(1, 600))
def test_blocks_partition_the_chunks_of_a_store(blocks: tuple[Block, ...], chunk: int) -> None:
    """Every chunk is written whole by exactly one worker, at odd sizes as well."""
    canvas = blocks[0].grid.canvas
    writers = np.zeros([-(-side // chunk) for side in canvas.shape], int)
    written = np.zeros(canvas.shape, int)
    for block in blocks:
        extent = chunk_extent(block.pixels, canvas, chunk)
        assert min(extent.shape) >= 0
        if not extent.area:
            continue
        assert canvas.intersect(extent) == extent
        assert block.pixels.rows.start <= extent.rows.start < block.pixels.rows.stop
        assert block.pixels.columns.start <= extent.columns.start < block.pixels.columns.stop
        for part, stop in zip(extent, canvas.shape, strict=True):
            # Whole chunks only, or up to the canvas' end.
            assert part.start % chunk == 0
            assert part.stop % chunk == 0 or part.stop == stop
        written[slice(*extent.rows), slice(*extent.columns)] += 1
        rows, columns = (slice(part.start // chunk, -(-part.stop // chunk)) for part in extent)
        writers[rows, columns] += 1
    assert (writers == 1).all()
    assert (written == 1).all()


@given(dealt(), st.integers(1, 600), st.integers(1, 5000))
def test_strips_of_an_extent_are_of_whole_chunks(blocks: tuple[Block, ...], chunk: int, pixels: int) -> None:
    """As a worker writes them: no two strips share a chunk."""
    canvas = blocks[0].grid.canvas
    for block in blocks[:4]:
        for strip in chunk_extent(block.pixels, canvas, chunk).bands(pixels, chunk):
            assert strip.rows.start % chunk == strip.columns.start % chunk == 0
            assert strip.rows.stop % chunk == 0 or strip.rows.stop == canvas.rows.stop
            assert strip.columns.stop % chunk == 0 or strip.columns.stop == canvas.columns.stop


@given(axes(), st.data())
def test_padded_blocks_hold_every_window(axis: Axis, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, axis.tiles - 1))
    last = data.draw(st.integers(first, axis.tiles - 1))
    span = axis.windows_extent(first, last)
    for jitter in range(axis.stride):
        for index in range(first, last + 1):
            assert span.contains(axis.window_of(index, jitter))


def test_no_workers_is_a_mistake() -> None:
    axis = Axis(length=64, tile=64, halo=16, fill=32, stride=16, mode="reflect")
    with pytest.raises(ValueError, match="0 workers"):
        deal_blocks(Grid(axis, axis), 0)


def test_a_rectangle_grows_on_every_side() -> None:
    assert Rect(Interval(3, 7), Interval(-2, 4)).grown(5) == Rect(Interval(-2, 12), Interval(-7, 9))
