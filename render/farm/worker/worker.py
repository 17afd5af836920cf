"""A worker: owns one block of the canvas, computes its gradient by windows, and applies the update.

The same class runs in-process for the `inline` executor and in a Ray actor on another machine: what goes in and out of its
methods is plain data (rectangles, numbers, arrays of the pixels asked for). Whatever is as large as the block is worked on
in strips, so that a block may live in a mapped file and be larger than memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from render.canvas.store import CanvasStore
from render.dream.ascent import luminance, measure
from render.dream.objectives import Given, Objective
from render.dream.resample import Pixels, resample
from render.errors import UserError
from render.farm.messages import Ascended, Assignment, TileSum, TileSums
from render.farm.worker.block import CANVAS, BlockArrays, MaskOfPixels, SourceOfPixels, moment_parts, not_finite, put
from render.farm.worker.resident_block import Residency, ResidentBlock
from render.farm.worker.timings import Spent, spends_on
from render.farm.worker.update import filter_tiles, level_sums, move
from render.geometry.geometry import CHUNK, Gathering, Interval, KernelShape, Rect, Tile
from render.models.architecture import Architecture
from render.storage.url import Place

#: Windows handed to the device, or one for each of several, before the oldest is awaited.
_IN_FLIGHT = 2


class Gradient(Protocol):
    """What a worker needs of a `dream.kernel.Kernel`."""

    def __call__(
        self,
        shape: KernelShape,
        window: Pixels,
        given: Given,
        offset: tuple[int, int],
        source: Pixels | None = None,
        places: NDArray[np.int32] | None = None,
    ) -> ArrayLike:
        """d(objective)/d(pixel) of the core that begins at `offset` in the window; it need not be awaited yet."""

    def batch(
        self,
        shape: KernelShape,
        windows: Sequence[Pixels],
        given: Given,
        offsets: Sequence[tuple[int, int]],
        sources: Sequence[Pixels] | None,
        places: Sequence[NDArray[np.int32]],
    ) -> ArrayLike:
        """The same for several windows at once, one for each device: an array of results."""

    def channel_sums(self, shape: KernelShape, window: Pixels, where: Rect, core: Rect, layer: str) -> NDArray[np.float64]:
        """For every channel of a layer the sum of the activations whose view is centred in `core`."""


class _Window(NamedTuple):
    """What a kernel is given for a tile and region, and which rectangle it will cut out of the window."""

    tile: Tile
    region: int
    pixels: Pixels
    offset: tuple[int, int]
    cut: Rect
    #: The source's pixels and the objective's places, where the objective is known.
    more: tuple[Any, ...]


class _Pending(NamedTuple):
    """A kernel call under way: for which windows, and what will have come of each."""

    windows: list[_Window]
    result: ArrayLike


class Worker:
    """Steps one block.

    Methods are called in the conductor's order: begin or load; then, for each step, lend, begin_step, ascend until all
    tiles are done, update.
    """

    def __init__(
        self,
        kernel: Gradient,
        source: SourceOfPixels,
        objectives: Sequence[Objective] = (),
        architecture: Architecture | None = None,
        masks: Sequence[MaskOfPixels] = (),
        devices: int = 1,
        residency: Residency | None = None,
    ) -> None:
        """`devices` is how many windows the kernel works on at once; `residency` may keep blocks in the device's memory."""
        self._kernel = kernel
        self._residency = residency
        self._devices = devices
        self._source = source
        self._objectives = tuple(objectives)
        self._architecture = architecture
        self._masks = masks
        self._state: BlockArrays | None = None
        #: The block of the octave before, while the next one is being filled: what dreaming added to it.
        self._detail: BlockArrays | None = None
        self._bytes_sent = 0
        #: What this worker's calls have taken, by phase.
        self.spent = Spent()

    @spends_on("resample")
    def begin_octave(self, given: Assignment) -> None:
        """Takes a block of a new octave, filled with the source."""
        # What an interrupted attempt left would cost memory twice.
        self._state = None
        if given.octave == 0:
            self._detail = None
        self._state = state = self._arrays(given)
        for rect in given.block.pixels.bands():
            state.part(rect)[...] = self._source.at(state.shape, rect)

    @spends_on("checkpoint")
    def load(self, path: Place, token: str, parts: Sequence[Place], given: Assignment) -> None:
        """Takes a block as `begin_octave` does, filled from a stored canvas, with the optimizer's `parts` beside it.

        Raises `DamagedCheckpoint`.
        """
        # What an interrupted attempt left would cost memory twice.
        self._state = self._detail = None
        state = self._arrays(given)
        # At an octave's end there are none any more: nothing is to be done there.
        names = (CANVAS, *moment_parts(len(parts)))
        for name, where in zip(names, (path, *parts), strict=True):
            store = CanvasStore(where, token)
            for rect in given.block.pixels.bands():
                state.part(rect, name)[...] = store.read(rect)
        self._state = state

    def _arrays(self, given: Assignment) -> BlockArrays:
        looks = any(self._objectives[number].looks_at_source for number in given.stage.objectives if self._objectives)
        # Compiles: counted where whoever calls a kernel first would wait.
        with self.spent.on("kernel"):
            ascent = self._residency.ascent(given) if self._residency is not None else None
        if ascent is not None:
            return ResidentBlock(given, self._source, self._masks, needs_source=looks, ascent=ascent)
        return BlockArrays(given, self._source, self._masks, needs_source=looks)

    @spends_on("resample")
    def end_octave(self) -> None:
        """Turns the canvas into what dreaming added to it, canvas minus source, for the next octave to build on."""
        state = self._current
        state.forget_gradients()
        for rect in state.block.pixels.bands():
            state.part(rect)[...] -= self._source.at(state.shape, rect)
        self._detail, self._state = state, None

    @spends_on("resample")
    def read_detail(self, rects: Sequence[Rect]) -> list[Pixels]:
        """What dreaming added at the octave that ended, for rectangles inside the block: float32, any sign."""
        assert self._detail is not None, "no octave has ended"
        detail = self._detail
        return [np.array(detail.part(rect)) for rect in rects]

    @spends_on("resample")
    def add_detail(
        self, rect: Rect, shape: tuple[int, int], needed: Rect, gathering: Gathering, *parts: list[Pixels]
    ) -> None:
        """Adds the last octave's detail, resampled from `shape`, to `rect` of the block.

        `gathering` says how `needed`, the part of the last octave that `rect` depends on, is put together; `parts` are the
        other owners' pixels in it.
        """
        state = self._current
        gathered = np.empty((*needed.shape, 3), np.float32)
        own = self.read_detail([piece.source for piece in gathering.own]) if gathering.own else []
        put(gathered, needed, gathering.own, own)
        for (_, pieces), pixels in zip(gathering.others, parts, strict=True):
            put(gathered, needed, pieces, pixels)
        target = state.part(rect)
        target += resample(
            lambda part: gathered[part.slices_from(needed)],
            shape,
            state.shape,
            rect,
            (state.block.grid.rows.mode, state.block.grid.columns.mode),
        )
        np.clip(target, 0.0, 255.0, out=target)

    def release(self) -> None:
        """Lets the block go."""
        self._state = self._detail = None

    def drop_detail(self) -> None:
        """Lets the octave before go; everybody has what they need of it."""
        self._detail = None

    @spends_on("checkpoint")
    def read(self, rects: Sequence[Rect], part: str = CANVAS) -> list[Pixels]:
        """Pixels of rectangles inside the block, each (rows, columns, 3) float32: the canvas', 0..255, or a moment's."""
        return self._copies(rects, part)

    @spends_on("margin")
    def lend(self) -> list[dict[int, list[Pixels]]]:
        """For each place in the assignment's loans the pixels of all who borrow there, by the borrower's number."""
        loans = self._current.given.loans
        return [{borrower: self._copies(rects) for borrower, rects in loan.items()} for loan in loans]

    def update_and_lend(self, step: int, statistics: Sequence[float]) -> list[dict[int, list[Pixels]] | None]:
        """`update`, then `lend` for the next step: one call instead of two. After the loans None, for the update."""
        self.update(step, statistics)
        return [*self.lend(), None]

    @spends_on("margin")
    def fill_margin(self, *parts: list[Pixels]) -> None:
        """Writes other owners' pixels, and this block's own where it is mirrored or wrapped, into the margin.

        `parts` are the pixels that `Gathering.others` of the margin names, in that order.
        """
        self._current.fill_margin(*parts)

    @spends_on("kernel")
    def channel_sums(self, region: int, term: int, first: int, count: int) -> list[TileSums]:
        """For `count` of the block's tiles, what every channel of a term's layer comes to over the source, by `term`."""
        state = self._current
        grid, objective = state.block.grid, self._objectives[state.given.given[region].objective]
        found = []
        for tile in state.block.tiles_from(first, count):
            window = grid.window(tile, (0, 0))
            pixels = state.source_window(window)
            assert pixels is not None, "the objective looks at no source"
            layer = objective.terms[term].layer
            sums = self._kernel.channel_sums(KernelShape.of(grid), pixels, window, grid.core(tile), layer)
            found.append(TileSums(tile.number, term, sums))
        return found

    def choose(self, given: Sequence[Given]) -> None:
        """Tells the kernel which channels have been chosen, for each region."""
        state = self._current
        state.given = replace(state.given, given=tuple(given))

    def ascend(self, step: int, jitter: tuple[int, int], first: int, count: int) -> Ascended:
        """Computes the gradient of `count` of the block's tiles from the `first` on, in tile order.

        Raises `NumericalError` that names octave, step and tile when a gradient is not finite.
        """
        begun = time.perf_counter()
        state = self._current
        tiles = list(state.block.tiles_from(first, count))
        if isinstance(state, ResidentBlock):
            with self.spent.on("kernel"):
                measured = state.ascend(step, jitter, tiles)
            return Ascended(tuple(measured), len(tiles), time.perf_counter() - begun, state.together)
        sums: list[TileSum] = []
        pending: deque[_Pending] = deque()
        # Of each region as many windows as there are devices: one kernel call has one objective.
        gathered: dict[int, list[_Window]] = {region: [] for region in range(len(state.given.stage.regions))}
        for tile in tiles:
            for region, windows in gathered.items():
                if not state.works_on(region, tile):
                    continue
                windows.append(self._window(tile, region, jitter))
                if len(windows) == self._devices:
                    pending.append(self._start(windows))
                    gathered[region] = []
                    if len(pending) >= _IN_FLIGHT:
                        sums += self._finish(step, pending.popleft())
        pending += [self._start(windows) for windows in gathered.values() if windows]
        while pending:
            sums += self._finish(step, pending.popleft())
        return Ascended(tuple(sums), len(tiles), time.perf_counter() - begun, self._devices)

    def begin_step(self, step: int, jitter: tuple[int, int], count: int, *lent: Mapping[int, list[Pixels]]) -> Ascended:
        """Fills the margin and computes the gradient of the first `count` tiles: one call instead of two.

        `lent` is what the margin's owners, in its order, lend to all borrowers at this worker's place.
        """
        self.fill_margin(*(loan[self._current.given.number] for loan in lent))
        return self.ascend(step, jitter, 0, count)

    @spends_on("filter")
    def read_gradient(self, rects: Sequence[Rect]) -> list[Pixels]:
        """Gradients of rectangles inside the block, of one region after the other: each (rows, columns, 3) float32."""
        state = self._current
        return [np.array(made[rect.slices_from(state.gradient_rect)]) for made in state.gradients for rect in rects]

    @spends_on("filter")
    def fill_gradient(self, gathering: Gathering, *parts: list[Pixels]) -> None:
        """Writes the gradient around the block, as far as the filter looks: others' (`parts`), and this block's own where
        it is mirrored or wrapped.
        """
        state = self._current
        own = [piece.source for piece in gathering.own]
        for region, made in enumerate(state.gradients):
            pixels = [made[rect.slices_from(state.gradient_rect)] for rect in own]
            put(made, state.gradient_rect, gathering.own, pixels)
            for (_, pieces), found in zip(gathering.others, parts, strict=True):
                put(made, state.gradient_rect, pieces, found[region * len(pieces) : (region + 1) * len(pieces)])

    @spends_on("filter")
    def level_sums(self, first: int, count: int) -> list[TileSums]:
        """See `moving.level_sums`."""
        return level_sums(self._current, first, count)

    @spends_on("filter")
    def filter(self, gains: Sequence[Sequence[float]], first: int, count: int) -> list[TileSum]:
        """See `moving.filter_tiles`."""
        return filter_tiles(self._current, gains, first, count)

    @spends_on("update")
    def update(self, step: int, statistics: Sequence[float]) -> None:
        """See `moving.move`."""
        state = self._current
        if isinstance(state, ResidentBlock):
            state.move(statistics)
        else:
            move(state, step, statistics)

    @property
    def gradient(self) -> Pixels:
        """The block's gradient toward the first region's objective, from the last `ascend`: (rows, columns, 3) float32."""
        return self._current.conditioned[0]

    @spends_on("checkpoint")
    def save(self, path: Place, token: str, part: str, extent: Rect, gathering: Gathering, *parts: list[Pixels]) -> None:
        """Writes the chunks of `extent` of the canvas, or of a moment, to its store and waits until they are on the disk.

        `gathering` and `parts` bring the pixels of `extent` that others own. Raises `UserError` when the disk is full.
        """
        state = self._current
        foreign = [
            (piece.target, pixels)
            for (_, pieces), arrays in zip(gathering.others, parts, strict=True)
            for piece, pixels in zip(pieces, arrays, strict=True)
        ]
        try:
            store = CanvasStore(path, token, mode="r+")
            for rect in extent.bands(multiple=CHUNK):
                pixels = np.empty((*rect.shape, 3), np.float32)
                for piece in gathering.own:
                    common = piece.target.intersect(rect)
                    if common.area:
                        pixels[common.slices_from(rect)] = state.part(common, part)
                for target, values in foreign:
                    common = target.intersect(rect)
                    if common.area:
                        pixels[common.slices_from(rect)] = values[common.slices_from(target)]
                store.write(rect, pixels)
                store.flush([rect])
        except OSError as error:
            raise UserError(f"checkpoint {path} cannot be written ({error.strerror or error}): free some space") from None

    @spends_on("preview")
    def thumbnail(self, every: int) -> tuple[Rect, np.ndarray]:
        """The block averaged over squares of `every` px: its rectangle in the small picture, and uint8 RGB.

        A square belongs to the block that holds its first pixel, and averages the part that lies in that block.
        """
        state = self._current
        pixels = state.block.pixels
        inside = Rect(
            *(
                Interval(min(-(-part.start // every) * every, part.stop), part.stop)
                for part in (pixels.rows, pixels.columns)
            )
        )
        small = Rect(*(Interval(-(-part.start // every), -(-part.stop // every)) for part in inside))
        means = np.zeros((*small.shape, 3), np.float32)
        for rect in inside.bands(multiple=every):
            starts = [range(0, part.size, every) for part in rect]
            sums = np.add.reduceat(np.add.reduceat(state.part(rect), starts[0], axis=0), starts[1], axis=1)
            areas = [np.minimum(every, part.size - np.asarray(start)) for part, start in zip(rect, starts, strict=True)]
            top, left = (part.start // every - corner.start for part, corner in zip(rect, small, strict=True))
            means[top : top + len(starts[0]), left : left + len(starts[1])] = (
                sums / (areas[0][:, None] * areas[1][None, :])[..., None]
            )
        return small, np.clip(np.rint(means), 0, 255).astype(np.uint8)

    def seconds_spent(self) -> dict[str, float]:
        """Seconds that this worker's calls have taken so far, by phase: `kernel` is the wait for the device."""
        return self.spent.seconds()

    def bytes_sent(self) -> int:
        """Bytes of canvas pixels that this worker has given out so far."""
        return self._bytes_sent

    def _copies(self, rects: Sequence[Rect], part: str = CANVAS) -> list[Pixels]:
        found = [np.array(self._current.part(rect, part)) for rect in rects]
        self._bytes_sent += sum(pixels.nbytes for pixels in found)
        return found

    @spends_on("windows")
    def _window(self, tile: Tile, region: int, jitter: tuple[int, int]) -> _Window:
        state = self._current
        grid, given = state.block.grid, state.given.given[region]
        shape = KernelShape.of(grid)
        window, core = grid.window(tile, jitter), grid.core(tile)
        pixels = np.ascontiguousarray(state.canvas[window.slices_from(state.block.padded)])
        rows, columns = shape.offset(window, core)
        cut = Rect(
            Interval(window.rows.start + rows, window.rows.start + rows + shape.core[0]),
            Interval(window.columns.start + columns, window.columns.start + columns + shape.core[1]),
        )
        more: tuple[Any, ...] = ()
        if self._objectives and self._architecture:
            objective = self._objectives[given.objective]
            source = state.source_window(window) if objective.needs_source else None
            more = (source, objective.places(self._architecture, grid, window, jitter))
        return _Window(tile, region, pixels, (rows, columns), cut, more)

    @spends_on("kernel")
    def _start(self, windows: list[_Window]) -> _Pending:
        state, first = self._current, windows[0]
        shape, given = KernelShape.of(state.block.grid), state.given.given[first.region]
        if self._devices == 1:
            return _Pending(windows, self._kernel(shape, first.pixels, given, first.offset, *first.more))
        sources, places = zip(*(window.more for window in windows), strict=True)
        return _Pending(
            windows,
            self._kernel.batch(
                shape,
                [window.pixels for window in windows],
                given,
                [window.offset for window in windows],
                None if sources[0] is None else sources,
                places,
            ),
        )

    def _finish(self, step: int, pending: _Pending) -> list[TileSum]:
        with self.spent.on("kernel"):
            results = np.asarray(pending.result)
        if self._devices == 1:
            results = results[None]
        return [self._finish_tile(step, *one) for one in zip(pending.windows, results, strict=False)]

    @spends_on("gradients")
    def _finish_tile(self, step: int, window: _Window, result: NDArray[np.float32]) -> TileSum:
        state, tile, region = self._current, window.tile, window.region
        core, conditioning = state.block.grid.core(tile), state.given.stage.conditioning
        gradient = np.ascontiguousarray(result[core.slices_from(window.cut)])
        if conditioning.luminance_only:
            gradient = luminance(gradient)
        sums = measure(gradient, state.mask(region, core), conditioning.normalize)
        if not np.isfinite(sums).all():
            raise not_finite(state.given.octave, step, tile)
        state.gradients[region][core.slices_from(state.gradient_rect)] = gradient
        return TileSum(tile.number, region, sums)

    @property
    def _current(self) -> BlockArrays:
        assert self._state is not None, "begin_octave comes first"
        return self._state
