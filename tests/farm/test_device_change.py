"""Octave changes on a device, on a CPU: the host's pixels, the same for every deal, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.dreaming import device_resample
from render.dreaming.device_resample import TileTaps, Window, resampled, tile_shape, window_length
from render.dreaming.kernel import Kernel
from render.dreaming.noise import fractal_noise
from render.dreaming.objectives import KernelInputs
from render.dreaming.resample import Pixels, axis_taps, resample_window
from render.dreaming.resident import BatchSpec, Position, cut_windows, store_gradients
from render.errors import UserError
from render.farm.conductor.block_dealer import BlockDealer, BlockOptions
from render.farm.conductor.dealt_workers import DealtWorkers
from render.farm.executors import InlineExecutor
from render.farm.messages import Assignment
from render.farm.worker import device_change, threads
from render.farm.worker.device_change import DeviceDetail, HostDetail
from render.farm.worker.interface import RemoteWorker
from render.farm.worker.resident_block import ResidencyRule, ResidentBlock
from render.farm.worker.resident_program import RegionArrays, ResidentProgram, TileInput
from render.farm.worker.worker import Worker
from render.geometry.geometry import Interval, KernelShape, Rect, whole
from render.geometry.source_window import SourceWindow, Span
from render.job.job import Draft
from render.networks.platforms import tracing_for
from render.planning.residence import ResidencySettings
from render.source.photo import PhotoSource
from render.source.source import NoiseSource, Source
from tests.support.dream_in_process import Dream, Ripples, Stop, chunks_of, process_of, small_draft
from tests.support.untiled import photo, set_pixels

#: Levels by which resampling on a device may differ from the host's. An output has two times six products of pixels up to
#: 255 with weights whose absolute values add up to less than 1.6 for each axis: 12 roundings of 2**-24 of 255 * 1.6**2.
BOUND = 12 * 2.0**-24 * 255 * 1.6**2


class RipplesProgram(ResidentProgram):
    """Substitute for a network on the device: the gradient of `Ripples`."""

    def __init__(self, shape: KernelShape) -> None:
        self.form = BatchSpec(shape)

    def __call__(
        self, region: int, kernel_inputs: KernelInputs, arrays: RegionArrays, tiles: Sequence[TileInput]
    ) -> tuple[jax.Array, list[jax.Array]]:
        del region
        position: Position = tiles[0].position
        at = jnp.asarray([position], jnp.int32)
        window = cut_windows(arrays.canvas, at, self.form)
        gradient = sum(jnp.sin(jnp.roll(window, shift, axis) / 9) for shift, axis in ((3, 0), (-5, 1))) - window / 500
        (down, across), (rows, columns) = position.offset, self.form.shape.core
        core = gradient[down : down + rows, across : across + columns] / kernel_inputs.factors[0]
        slots, sums = store_gradients(arrays.slots, core, at, self.form)
        return slots, [sums]

    def places(self, *_: Any) -> np.ndarray:
        return np.zeros(0)

    def needs_source(self, _: KernelInputs) -> bool:
        return False


class Resident(ResidencyRule):
    """Rule by which every block is resident, and has room beside another or not."""

    def __init__(self, has_room: bool = True) -> None:
        self._has_room = has_room
        self.needed: list[int] = []

    def program(self, assignment: Assignment) -> ResidentProgram:
        return RipplesProgram(KernelShape.of(assignment.block.grid))

    def has_room(self, needed: int) -> bool:
        self.needed.append(needed)
        return self._has_room


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles for each block, and several strips."""
    monkeypatch.setattr(device_resample, "_CPU_TILE", (40, 56))
    monkeypatch.setattr(device_change, "_MOST_STRIP_PX", 5000)


def make_window(pixels: Pixels, spans: tuple[Span, Span], shape: tuple[int, int], rect: Rect) -> Window:
    rows, columns = (
        axis_taps(span, length, part) for span, length, part in zip(spans, shape, (rect.rows, rect.columns), strict=True)
    )
    window = pixels[slice(*rows.inputs), slice(*columns.inputs)]
    return Window(window, TileTaps.of(rows, columns, tile_shape()))


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_each_form_resamples_as_the_host(platform: str) -> None:
    """At the picture's ends, and where a tile is cut short."""
    pixels, shape = photo(90, 120), (127, 171)
    spans = Span.whole(90), Span.whole(120)
    with tracing_for(platform):
        rows, columns = tile_shape()
        for rect in (
            Rect(Interval(0, min(40, rows)), Interval(0, 56)),
            Rect(Interval(100, 127), Interval(150, 171)),
        ):
            tile = np.asarray(jax.jit(resampled)(make_window(pixels, spans, shape, rect)))
            assert tile.shape == (rows, columns, 3)
            host = resample_window(
                lambda part: pixels[slice(*part.rows), slice(*part.columns)], SourceWindow(*spans), shape, rect
            )
            np.testing.assert_allclose(tile[: rect.rows.size, : rect.columns.size], host, rtol=0, atol=BOUND)


def test_a_window_has_one_of_a_few_lengths_and_holds_what_it_must() -> None:
    for steps, most in ((1, 6), (4, 26)):
        lengths = {window_length(inputs, 1024, steps) for inputs in range(40, 1033)}
        assert len(lengths) <= most
        assert max(lengths) == 1032
        assert all(window_length(inputs, 1024, steps) >= inputs for inputs in range(1, 3000))
    # Details of successive octaves share one.
    assert len({window_length(inputs, 1024, 4) for inputs in range(730, 745)}) == 1


class Change:
    """Two octaves of a job without a kernel: the second's canvas follows from the first's by the change alone."""

    def __init__(self, source: Source | None = None, *words: str) -> None:
        self.draft: Draft = small_draft("octaves.scale=1.4", *words)
        self.source = source or self.draft.resolved.source
        self.first, self.second = self.draft.plan.octaves
        self.workers: list[Worker] = []

    def canvas(self, workers: int, residency: ResidencyRule | None, workers_then: int | None = None) -> Pixels:
        """Return the second octave's canvas, made by workers of which some may have come or gone at the change."""
        job = self.draft.resolved
        objectives = job.schedule.objectives
        made = [
            Worker(Ripples(), self.source, objectives, residency=residency) for _ in range(max(workers, workers_then or 0))
        ]
        self.workers = made

        def dealer(count: int) -> BlockDealer:
            executor = InlineExecutor([process_of(worker) for worker in made[:count]])
            architecture = job.network.model.architecture
            return BlockDealer(executor, architecture, objectives, BlockOptions(), lambda: None)

        before = dealer(workers).begin(self.first, None)
        dreamed = np.clip(
            self.source.at(self.first.shape, whole(*self.first.shape))
            + fractal_noise(5, self.first.shape, whole(*self.first.shape)) / 3
            - 42,
            0,
            255,
        ).astype(np.float32)
        for worker, block in zip(made, before.deal.blocks, strict=False):
            set_pixels(worker.arrays, dreamed[slice(*block.pixels.rows), slice(*block.pixels.columns)])
        before.run_all(RemoteWorker.end_octave)
        return held(dealer(workers_then or workers).begin(self.second, before))


def held(workers: DealtWorkers) -> Pixels:
    canvas = np.full((*workers.deal.octave.shape, 3), np.nan, np.float32)
    for number, block in enumerate(workers.deal.blocks):
        (pixels,) = workers.run([number], RemoteWorker.read, [block.pixels])[0]
        canvas[slice(*block.pixels.rows), slice(*block.pixels.columns)] = pixels
    assert not np.isnan(canvas).any()
    return canvas


SOURCES: dict[str, Callable[[], Source | None]] = {
    # Shrunk by the host, enlarged by the device, and neither.
    "shrunk": lambda: None,
    "enlarged": lambda: PhotoSource(photo(80, 120), ""),
    "beyond": lambda: PhotoSource(
        photo(80, 120), "", (9, 90, 200), SourceWindow(Span(80, -9.5, 99.0, "background"), Span(120, -3.0, 126.0, "mirror"))
    ),
    "noise": lambda: NoiseSource(3),
}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("shrunk", ()),
        ("enlarged", ("boundary.mode=wrap",)),
        ("enlarged", ("conditioning.shoulder=48", "boundary.mode=wrap_x")),
        ("beyond", ("conditioning.shoulder=[0,48]",)),
        ("noise", ()),
    ],
)
def test_a_change_on_the_device_gives_the_hosts_pixels_from_any_deal(source: str, words: tuple[str, ...]) -> None:
    """Four times the bound: source and detail are resampled, and the detail is itself a difference of two resampled."""
    change = Change(SOURCES[source](), *words)
    host = change.canvas(2, None)
    alone = change.canvas(1, Resident())
    # A shoulder's inverse enlarges differences where detail is squeezed.
    atol = 4 * BOUND * (50 if any("shoulder" in word for word in words) else 1)
    np.testing.assert_allclose(alone, host, rtol=0, atol=atol)
    assert np.abs(alone - host).mean() < BOUND / 10
    assert np.abs(host - change.source.at(change.second.shape, whole(*change.second.shape))).mean() > 5
    for workers, workers_then in ((4, 4), (1, 3), (4, 2)):
        assert change.canvas(workers, Resident(), workers_then).tobytes() == alone.tobytes()


def test_without_room_for_two_canvases_the_detail_waits_on_the_host() -> None:
    """The same bytes; the rule is asked with both canvases and what is made on the way."""
    change = Change(PhotoSource(photo(80, 120), ""))
    ample, scarce = Resident(), Resident(has_room=False)
    assert change.canvas(2, scarce).tobytes() == change.canvas(2, ample).tobytes()
    assert ample.needed == scarce.needed
    areas = [12 * worker.arrays.block.padded.area for worker in change.workers]
    assert all(needed > area for needed, area in zip(ample.needed, areas, strict=True))


def test_the_detail_stays_where_the_canvas_was() -> None:
    """No copy: the same memory; only on its way to others, or without room, is it on the host."""
    change = Change(PhotoSource(photo(80, 120), ""))
    change.canvas(1, Resident())
    (worker,) = change.workers
    block = worker.arrays
    assert isinstance(block, ResidentBlock)
    assert block._canvas is not None
    canvas = np.asarray(worker.read([block.block.pixels])[0])
    address = block._canvas.unsafe_buffer_pointer()
    worker.end_octave()
    detail = worker._change._detail
    assert isinstance(detail, DeviceDetail)
    assert detail.array.unsafe_buffer_pointer() == address
    source = change.source.at(change.second.shape, block.block.pixels)
    on_host = detail.on_host(None)
    assert isinstance(on_host, HostDetail)
    np.testing.assert_allclose(on_host.part(block.block.pixels), canvas - source, rtol=0, atol=2 * BOUND)


def test_within_a_change_no_pixel_of_canvas_or_detail_passes_between_host_and_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What goes to the device are samples of the source, and taps; nothing comes back."""
    change = Change(PhotoSource(photo(40, 60), ""))
    change.canvas(1, Resident())
    (worker,) = change.workers
    fetched: list[Any] = []
    monkeypatch.setattr(jax, "device_get", fetched.append)
    with jax.transfer_guard("disallow"):
        worker.end_octave()
    assert not fetched


def test_dreams_stopped_anywhere_around_a_change_end_with_the_same_bytes(tmp_path: Path) -> None:
    """From one worker and from four; stopped before, in and after the change, and resumed."""
    words = ("octaves.scale=1.4", "octaves.steps=2", "output.width=200")
    with chunks_of(64):
        count = Stop()
        canvas, _ = Dream(tmp_path / "several", *words).run(count, workers=4, residency=Resident())
        alone, _ = Dream(tmp_path / "alone", *words).run(workers=1, residency=Resident())
        assert alone.tobytes() == canvas.tobytes()
        reached = set()
        for number, share in enumerate((0.3, 0.5, 0.6, 0.8)):
            dream = Dream(tmp_path / str(number), *words)
            dream.stopped(Stop(int(share * count.calls)), workers=4, residency=Resident())
            reached.update(dream.saved[:1])
            resumed, _ = dream.run(workers=3, residency=Resident())
            assert resumed.tobytes() == canvas.tobytes(), share
    # Before the change, which is made again, and after it.
    assert {(0, 2), (1, 0)} <= reached


def test_the_hosts_change_is_the_same_in_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_MIN_PIECE_PX", 500)
    change = Change(PhotoSource(photo(80, 120), ""), "conditioning.shoulder=48")
    canvases = []
    for count in (1, 5):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        canvases.append(change.canvas(2, None))
    assert canvases[0].tobytes() == canvases[1].tobytes()


def test_threads_yield_in_order_cut_exactly_and_raise_the_first_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "thread_count", lambda: 3)
    assert [result for _, result in threads.map_ordered(lambda number: number**2, range(20))] == [n**2 for n in range(20)]
    for rect in (whole(1000, 700), Rect(Interval(5, 9), Interval(3, 400_000)), whole(10, 10)):
        pieces = threads.split(rect, 7)
        assert sum(piece.area for piece in pieces) == rect.area
        assert len(pieces) == min(7, max(1, rect.area // 100_000))
    covered = np.zeros((900, 700), int)

    def count(piece: Rect) -> None:
        covered[slice(*piece.rows), slice(*piece.columns)] += 1

    threads.for_each_piece(count, whole(900, 700))
    assert (covered == 1).all()

    def fail(piece: Rect) -> None:
        raise UserError("a level is damaged")

    with pytest.raises(UserError, match="damaged"):
        threads.for_each_piece(fail, whole(900, 700))


def test_a_rule_asks_for_room_by_the_devices_memory() -> None:
    rule = ResidencyRule(Kernel.__new__(Kernel), ResidencySettings(), "gpu", 1000)
    assert rule.has_room(900)
    assert not rule.has_room(901)
