"""A worker: owns one block of the canvas, computes its gradient by windows, and applies the update.

The same class runs in-process for the `inline` executor and in a Ray actor on another machine, so its methods take and
return plain data (rectangles, numbers, arrays of the requested pixels). Arrays as large as the block are processed in
strips, so that a block may live in a mapped file and be larger than memory.
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
from render.dreaming.ascent import luminance, measure
from render.dreaming.objectives import KernelInputs, Objective
from render.dreaming.resample import Pixels, resample
from render.errors import UserError
from render.farm.messages import Ascended, Assignment, TileSum, TileSums
from render.farm.worker.block import CANVAS, BlockArrays, MaskOfPixels, SourceOfPixels, moment_parts, not_finite, put
from render.farm.worker.resident_block import Residency, ResidentBlock
from render.farm.worker.timings import Spent, spends_on
from render.farm.worker.update import filter_tiles, level_sums, move
from render.geometry.blocks import Gathering
from render.geometry.geometry import CHUNK, Interval, KernelShape, Rect, Tile
from render.networks.architecture import Architecture
from render.storage.url import Place

#: Kernel calls in progress before the oldest is awaited; each has one window for each device.
_IN_FLIGHT = 2


class Gradient(Protocol):
    """The part of `dream.kernel.Kernel` that a worker uses."""

    def __call__(
        self,
        shape: KernelShape,
        window: Pixels,
        kernel_inputs: KernelInputs,
        offset: tuple[int, int],
        source: Pixels | None = None,
        places: NDArray[np.int32] | None = None,
    ) -> ArrayLike:
        """Return d(objective)/d(pixel) of the core that begins at `offset` in the window; may be asynchronous."""

    def batch(
        self,
        shape: KernelShape,
        windows: Sequence[Pixels],
        kernel_inputs: KernelInputs,
        offsets: Sequence[tuple[int, int]],
        sources: Sequence[Pixels] | None,
        places: Sequence[NDArray[np.int32]],
    ) -> ArrayLike:
        """Compute several windows at once, one for each device, and return an array of results."""

    def channel_sums(
        self, shape: KernelShape, window: Pixels, window_rect: Rect, core: Rect, layer: str
    ) -> NDArray[np.float64]:
        """Return, for every channel of a layer, the sum of the activations whose view is centred in `core`."""


class _Window(NamedTuple):
    """Kernel inputs of a tile and region, and the rectangle that the kernel cuts out of the window."""

    tile: Tile
    region: int
    pixels: Pixels
    offset: tuple[int, int]
    cut: Rect
    #: The source's pixels and the objective's places, if the objective is known.
    more: tuple[Any, ...]


class _Pending(NamedTuple):
    """A kernel call that is running: its windows, and their result."""

    windows: list[_Window]
    result: ArrayLike


class Worker:
    """Owner of one block, which it steps.

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
        """Store the settings; no block is held yet.

        `devices` is how many windows the kernel works on at once. `residency` may keep blocks in the device's memory.
        """
        self._kernel = kernel
        self._residency = residency
        self._devices = devices
        self._source = source
        self._objectives = tuple(objectives)
        self._architecture = architecture
        self._masks = masks
        self._state: BlockArrays | None = None
        #: The detail of the octave before, while the next block is filled.
        self._detail: BlockArrays | None = None
        self._bytes_sent = 0
        #: Seconds of this worker's calls, by phase.
        self.spent = Spent()

    @spends_on("resample")
    def begin_octave(self, given: Assignment) -> None:
        """Take a block of a new octave, filled with the source."""
        # Free the block of an interrupted attempt first, to save memory.
        self._state = None
        if given.octave == 0:
            self._detail = None
        self._state = state = self._arrays(given)
        for rect in given.block.pixels.bands():
            state.part(rect)[...] = self._source.at(state.shape, rect)

    @spends_on("checkpoint")
    def load(self, path: Place, token: str, parts: Sequence[Place], given: Assignment) -> None:
        """Take a block as `begin_octave` does, filled from a stored canvas, with the optimizer's `parts` beside it.

        Raise `DamagedCheckpoint`.
        """
        # Free the block of an interrupted attempt first, to save memory.
        self._state = self._detail = None
        state = self._arrays(given)
        # A checkpoint at an octave's end has no moments: no step follows there.
        names = (CANVAS, *moment_parts(len(parts)))
        for name, place in zip(names, (path, *parts), strict=True):
            store = CanvasStore(place, token)
            for rect in given.block.pixels.bands():
                state.part(rect, name)[...] = store.read(rect)
        self._state = state

    def _arrays(self, given: Assignment) -> BlockArrays:
        looks = any(self._objectives[number].looks_at_source for number in given.stage.objectives if self._objectives)
        # May compile: counted as the first kernel call's compilation is.
        with self.spent.on("kernel"):
            ascent = self._residency.ascent(given) if self._residency is not None else None
        if ascent is not None:
            return ResidentBlock(given, self._source, self._masks, needs_source=looks, ascent=ascent)
        return BlockArrays(given, self._source, self._masks, needs_source=looks)

    @spends_on("resample")
    def end_octave(self) -> None:
        """Replace the canvas by its detail, canvas minus source, which the next octave builds on."""
        state = self._current
        state.forget_gradients()
        for rect in state.block.pixels.bands():
            state.part(rect)[...] -= self._source.at(state.shape, rect)
        self._detail, self._state = state, None

    @spends_on("resample")
    def read_detail(self, rects: Sequence[Rect]) -> list[Pixels]:
        """Return the detail of the octave that ended, for rectangles inside the block: float32, any sign."""
        assert self._detail is not None, "no octave has ended"
        detail = self._detail
        return [np.array(detail.part(rect)) for rect in rects]

    @spends_on("resample")
    def add_detail(
        self, rect: Rect, shape: tuple[int, int], needed: Rect, gathering: Gathering, *parts: list[Pixels]
    ) -> None:
        """Add the last octave's detail, resampled from `shape`, to `rect` of the block.

        `gathering` says how `needed`, the part of the last octave that `rect` depends on, is put together; `parts` are the
        other owners' pixels in it.
        """
        state = self._current
        gathered = np.empty((*needed.shape, 3), np.float32)
        own_parts = self.read_detail([piece.source for piece in gathering.own]) if gathering.own else []
        put(gathered, needed, gathering.own, own_parts)
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
        """Free the block."""
        self._state = self._detail = None

    def drop_detail(self) -> None:
        """Free the octave before; no worker needs it any more."""
        self._detail = None

    @spends_on("checkpoint")
    def read(self, rects: Sequence[Rect], part: str = CANVAS) -> list[Pixels]:
        """Return pixels of rectangles inside the block, (rows, columns, 3) float32: the canvas', 0..255, or a moment's."""
        return self._copies(rects, part)

    @spends_on("margin")
    def lend(self) -> list[dict[int, list[Pixels]]]:
        """Return, for each place in the assignment's loans, the pixels of all borrowers there, by the borrower's number."""
        loans = self._current.given.loans
        return [{borrower: self._copies(rects) for borrower, rects in loan.items()} for loan in loans]

    def update_and_lend(self, step: int, statistics: Sequence[float]) -> list[dict[int, list[Pixels]] | None]:
        """Update, then `lend` for the next step, in one call. None follows the loans, for the update."""
        self.update(step, statistics)
        return [*self.lend(), None]

    @spends_on("margin")
    def fill_margin(self, *parts: list[Pixels]) -> None:
        """Write pixels into the margin: other owners', and this block's own where it is mirrored or wrapped.

        `parts` are the pixels that `Gathering.others` of the margin names, in that order.
        """
        self._current.fill_margin(*parts)

    @spends_on("kernel")
    def channel_sums(self, region: int, term: int, first: int, count: int) -> list[TileSums]:
        """Return, for `count` of the block's tiles, the source's sums of every channel of a term's layer, by `term`."""
        state = self._current
        grid, objective = state.block.grid, self._objectives[state.given.given[region].objective]
        results = []
        for tile in state.block.tiles_from(first, count):
            window = grid.window(tile, (0, 0))
            pixels = state.source_window(window)
            assert pixels is not None, "the objective looks at no source"
            layer = objective.terms[term].layer
            sums = self._kernel.channel_sums(KernelShape.of(grid), pixels, window, grid.core(tile), layer)
            results.append(TileSums(tile.number, term, sums))
        return results

    def choose(self, given: Sequence[KernelInputs]) -> None:
        """Give the kernel the chosen channels, for each region."""
        state = self._current
        state.given = replace(state.given, given=tuple(given))

    def ascend(self, step: int, jitter: tuple[int, int], first: int, count: int) -> Ascended:
        """Compute the gradient of `count` of the block's tiles from the `first` on, in tile order.

        Raise `NumericalError`, which names octave, step and tile, if a gradient is not finite.
        """
        start = time.perf_counter()
        state = self._current
        tiles = list(state.block.tiles_from(first, count))
        if isinstance(state, ResidentBlock):
            with self.spent.on("kernel"):
                measured = state.ascend(step, jitter, tiles)
            return Ascended(tuple(measured), len(tiles), time.perf_counter() - start, state.together)
        sums: list[TileSum] = []
        pending: deque[_Pending] = deque()
        # Batches are gathered by region, with one window for each device: a kernel call has one objective.
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
        return Ascended(tuple(sums), len(tiles), time.perf_counter() - start, self._devices)

    def begin_step(self, step: int, jitter: tuple[int, int], count: int, *lent: Mapping[int, list[Pixels]]) -> Ascended:
        """Fill the margin and compute the gradient of the first `count` tiles, in one call.

        `lent` are the loans of the margin's owners, in its order, for all borrowers at this worker's place.
        """
        self.fill_margin(*(loan[self._current.given.number] for loan in lent))
        return self.ascend(step, jitter, 0, count)

    @spends_on("filter")
    def read_gradient(self, rects: Sequence[Rect]) -> list[Pixels]:
        """Return the gradients of rectangles inside the block, region by region: each (rows, columns, 3) float32."""
        state = self._current
        return [np.array(gradient[rect.slices_from(state.gradient_rect)]) for gradient in state.gradients for rect in rects]

    @spends_on("filter")
    def fill_gradient(self, gathering: Gathering, *parts: list[Pixels]) -> None:
        """Write the gradient around the block, within the filter's reach.

        These are others' gradients (`parts`), and this block's own where it is mirrored or wrapped.
        """
        state = self._current
        own_rects = [piece.source for piece in gathering.own]
        for region, gradient in enumerate(state.gradients):
            pixels = [gradient[rect.slices_from(state.gradient_rect)] for rect in own_rects]
            put(gradient, state.gradient_rect, gathering.own, pixels)
            for (_, pieces), arrays in zip(gathering.others, parts, strict=True):
                put(gradient, state.gradient_rect, pieces, arrays[region * len(pieces) : (region + 1) * len(pieces)])

    @spends_on("filter")
    def level_sums(self, first: int, count: int) -> list[TileSums]:
        """See `update.level_sums`."""
        return level_sums(self._current, first, count)

    @spends_on("filter")
    def filter(self, gains: Sequence[Sequence[float]], first: int, count: int) -> list[TileSum]:
        """See `update.filter_tiles`."""
        return filter_tiles(self._current, gains, first, count)

    @spends_on("update")
    def update(self, step: int, statistics: Sequence[float]) -> None:
        """See `update.move`."""
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
        """Write the chunks of `extent` of the canvas, or of a moment, to its store and wait until they are on the disk.

        `gathering` and `parts` bring the pixels of `extent` that others own. Raise `UserError` if the disk is full.
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
        """Average the block over squares of `every` px; return its rectangle in the small picture, and uint8 RGB.

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
        """Return the seconds of this worker's calls so far, by phase: `kernel` is the wait for the device."""
        return self.spent.seconds()

    def bytes_sent(self) -> int:
        """Return the bytes of canvas pixels that this worker has sent so far."""
        return self._bytes_sent

    def _copies(self, rects: Sequence[Rect], part: str = CANVAS) -> list[Pixels]:
        copies = [np.array(self._current.part(rect, part)) for rect in rects]
        self._bytes_sent += sum(pixels.nbytes for pixels in copies)
        return copies

    @spends_on("windows")
    def _window(self, tile: Tile, region: int, jitter: tuple[int, int]) -> _Window:
        state = self._current
        grid, kernel_inputs = state.block.grid, state.given.given[region]
        shape = KernelShape.of(grid)
        window, core = grid.window(tile, jitter), grid.core(tile)
        pixels = np.ascontiguousarray(state.canvas[window.slices_from(state.block.padded)])
        rows, columns = shape.offset(window, core)
        cut = Rect(
            Interval(window.rows.start + rows, window.rows.start + rows + shape.core[0]),
            Interval(window.columns.start + columns, window.columns.start + columns + shape.core[1]),
        )
        extra_inputs: tuple[Any, ...] = ()
        if self._objectives and self._architecture:
            objective = self._objectives[kernel_inputs.objective]
            source = state.source_window(window) if objective.needs_source else None
            extra_inputs = (source, objective.places(self._architecture, grid, window, jitter))
        return _Window(tile, region, pixels, (rows, columns), cut, extra_inputs)

    @spends_on("kernel")
    def _start(self, windows: list[_Window]) -> _Pending:
        state, first = self._current, windows[0]
        shape, kernel_inputs = KernelShape.of(state.block.grid), state.given.given[first.region]
        if self._devices == 1:
            return _Pending(windows, self._kernel(shape, first.pixels, kernel_inputs, first.offset, *first.more))
        sources, places = zip(*(window.more for window in windows), strict=True)
        return _Pending(
            windows,
            self._kernel.batch(
                shape,
                [window.pixels for window in windows],
                kernel_inputs,
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
        return [self._finish_tile(step, *pair) for pair in zip(pending.windows, results, strict=False)]

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
