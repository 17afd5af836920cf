"""Everything that a stage can ask for, with blocks that stay in a device's memory, on a CPU: the host's dream and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from render.dreaming.ascent import statistic
from render.dreaming.kernel import Kernel
from render.farm.messages import GradientSums
from render.farm.worker import margins
from render.farm.worker.resident_block import ResidencyRule, ResidentBlock
from render.farm.worker.worker import Worker
from render.geometry.blocks import Gathering, pieces_of
from render.networks.weights import Loaded
from render.planning.residence import ResidencySettings
from tests.farm.test_devices import render_on
from tests.support.dream_in_process import Dream, Stop, chunks_of
from tests.support.untiled import kernel_of

MEMORY = 64 * 10**9
#: Two octaves of at most 3 x 2 tiles, of which the last of each axis are shorter than the others.
SMALL = ("objective.terms=[conv2d_2a_3x3]", "output.width=140", "tiles.size=60", "octaves.steps=[1,2]", "step_size=3")
REGIONS = "objective.regions=[{mask: HALF, terms: [conv2d_1a_3x3]}]"
#: Words of a job by what they prove. HALF is a mask that is 0 in the left third of the picture.
FEATURES: dict[str, tuple[str, ...]] = {
    "looks": ("conditioning.laplacian=2", "conditioning.decorrelate=0.7", "conditioning.shoulder=24"),
    "brushwork": ("conditioning.pull=0.03", "conditioning.decorrelate=1", "conditioning.shoulder=24"),
    "pyramid": ("conditioning.laplacian=[1,3]", "boundary.mode=wrap", "conditioning.normalize=std"),
    "smoothing": ("conditioning.smoothing=1.5", "conditioning.luminance_only=true", "boundary.mode=wrap_x"),
    "variation": ("conditioning.total_variation=0.3", "conditioning.decorrelate=0.5", "optimizer.name=momentum"),
    "adam": ("optimizer.name=adam", "conditioning.pull=0.1", "conditioning.decorrelate=1", "conditioning.shoulder=48"),
    "caricature": ("objective.terms=[{layer: conv2d_2a_3x3, caricature: true}]", "conditioning.pull=0.05"),
    "mask": ("objective.mask=HALF", "conditioning.laplacian=2", "optimizer.name=adam"),
    "regions": (REGIONS, "conditioning.total_variation=0.1", "conditioning.luminance_only=true"),
    "soft regions": ("objective.mask=HALF", REGIONS, "conditioning.smoothing=1", "conditioning.normalize=std"),
    "texture": ("objective.terms=[{layer: conv2d_2a_3x3, texture: 'sample:coffee'}]", "conditioning.laplacian=2"),
    "strongest": ("objective.terms=[{layer: conv2d_2a_3x3, strongest: 3}]", "conditioning.pull=0.05"),
}  # fmt: skip


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masks") / "half.png"
    shade = np.clip(np.linspace(-128, 255, 192), 0, 255).astype(np.uint8)
    Image.fromarray(np.tile(shade, (128, 1))).save(path)
    return path


def words_of(feature: str, mask: Path) -> tuple[str, ...]:
    return (*SMALL, *(word.replace("HALF", str(mask)) for word in FEATURES[feature]))


def residency_of(kernel: Kernel) -> ResidencyRule:
    return ResidencyRule(kernel, ResidencySettings(resident=True, batch=2), "cpu", MEMORY)


@pytest.mark.slow
@pytest.mark.parametrize("feature", FEATURES)
def test_resident_dreams_are_those_of_the_host_from_any_number_of_workers_and_after_a_stop(
    feature: str, mask: Path, inception: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes from one worker, from four, and after a stop in the second octave; the host rounds otherwise.

    Margins travel in threads, however few they are.
    """
    monkeypatch.setattr(margins, "_THREADED_BYTES", 0)
    words = words_of(feature, mask)
    host = Dream(tmp_path / "host", *words)
    kernel = kernel_of(inception, *host.objectives)
    residency = residency_of(kernel)
    with chunks_of(64):
        expected, _ = host.run(kernel=kernel)
        alone = Dream(tmp_path / "alone", *words)
        canvas, _ = alone.run(workers=1, kernel=kernel, residency=residency)
        stopped, count = Dream(tmp_path / "stopped", *words), Stop()
        several, _ = Dream(tmp_path / "several", *words).run(count, workers=4, kernel=kernel, residency=residency)
        stopped.stopped(Stop(int(0.85 * count.calls)), workers=4, kernel=kernel, residency=residency)
        resumed, _ = stopped.run(workers=3, kernel=kernel, residency=residency)
    assert several.tobytes() == canvas.tobytes()
    assert resumed.tobytes() == canvas.tobytes()
    np.testing.assert_allclose(np.concatenate(alone.gradients), np.concatenate(host.gradients), rtol=1e-4)
    assert np.abs(canvas - expected).mean() < 1e-3
    assert np.abs(canvas - alone.source).mean() > 0.3


@pytest.fixture
def worker(mask: Path, inception: Loaded, tmp_path: Path, request: pytest.FixtureRequest) -> Worker:
    """The only worker of a small dream of the feature that the test names, at its last octave, stepped once."""
    dream = Dream(tmp_path / "one", *words_of(request.param, mask), "octaves.count=1", "octaves.steps=1")
    kernel = kernel_of(inception, *dream.objectives)
    with chunks_of(64):
        dream.run(workers=1, kernel=kernel, residency=residency_of(kernel))
    return dream.workers[0]


def step(worker: Worker, number: int) -> None:
    """The parts of a step, with levels of equal gain."""
    worker.fill_margin()
    sums: Sequence[GradientSums] = worker.compute_gradient(number, (1, 0), list(worker.arrays.block.tiles())).sums
    assignment = worker.arrays.assignment
    conditioning, regions = assignment.stage.conditioning, len(assignment.stage.regions)
    if conditioning.filters:
        worker.fill_gradient(worker_ring(worker))
        if conditioning.laplacian:
            worker.level_sums(0, 100)
        sums = worker.filter(0, 100, [[1.0] * (conditioning.laplacian + 1)] * regions)
    totals = [np.sum([part.sums for part in sums if part.region == region], axis=0) for region in range(regions)]
    worker.update(number, [statistic(total.tolist(), conditioning.normalize) for total in totals])


def worker_ring(worker: Worker) -> Gathering:
    """The gradient around the only block: its own pixels, mirrored."""
    block = worker.arrays.block
    around = block.pixels.grown(worker.arrays.assignment.stage.conditioning.reach)
    return Gathering.of((piece for piece in pieces_of(around, (block,)) if piece.target != block.pixels), 0)


@pytest.mark.slow
@pytest.mark.parametrize("worker", ["looks", "adam", "regions", "caricature"], indirect=True)
def test_a_step_moves_no_pixels_between_host_and_device_and_keeps_its_arrays_where_they_are(worker: Worker) -> None:
    """No implicit transfer; donated arrays are gone, and their successors lie at the same addresses."""
    block = worker.arrays
    assert isinstance(block, ResidentBlock)

    def held() -> list[jax.Array]:
        assert block._canvas is not None
        return [block._canvas, *block.device.slots, *block.device.filtered, *block.device.moments]

    step(worker, 1)
    before = held()
    addresses = [array.unsafe_buffer_pointer() for array in before]
    pixels = worker.read([block.block.pixels])[0]
    with jax.transfer_guard("disallow"):
        step(worker, 2)
    assert [array.unsafe_buffer_pointer() for array in held()] == addresses
    assert before[0].is_deleted()
    assert np.abs(worker.read([block.block.pixels])[0] - pixels).mean() > 0.1


@pytest.mark.slow
def test_a_worker_with_two_devices_keeps_its_block_on_one_and_makes_the_same_floats(tmp_path: Path) -> None:
    """Looks' settings, in processes of their own; each device takes two windows at once."""
    words = (
        "farm.executor=inline", "objective.terms=[conv2d_2a_3x3]", "octaves.steps=1", "conditioning.laplacian=2",
        "farm.worker.resident=true", "farm.worker.batch=2",
    )  # fmt: skip
    canvases = []
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        canvas, counts = render_on(devices, tmp_path / str(devices), *words)
        assert counts == [devices]
        canvases.append(canvas)
    np.testing.assert_array_equal(*canvases)
