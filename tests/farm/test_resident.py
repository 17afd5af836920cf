"""Blocks that stay in a device's memory, on a CPU: the same gradient, without round trips or copies."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import ray

from render.config.compose import load_config
from render.config.schema import SourceConfig
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, Objective, resolve
from render.dreaming.stage import Stage
from render.errors import NumericalError
from render.farm.executors import Executor, InlineExecutor
from render.farm.messages import Assignment
from render.farm.worker.resident_block import ResidencyRule, ResidentBlock
from render.farm.worker.worker import Worker
from render.geometry.blocks import Gathering, deal_blocks, margin_pieces
from render.geometry.geometry import Grid
from render.job.job import draft, prepared
from render.job.materials import Library
from render.networks.weights import Loaded
from render.planning.residence import ResidencySettings
from tests.conftest import refusal
from tests.support.dream_in_process import Dream, Stop, chunks_of
from tests.support.farm_job import JOB, dreamed
from tests.support.untiled import Still, assert_equal, kernel_of, make_grid, photo, tiled_gradient, untiled_gradient

MEMORY = 64 * 10**9


def residency_of(
    kernel: Kernel, batch: int | str = "auto", resident: bool | str = True, memory: int = MEMORY
) -> ResidencyRule:
    return ResidencyRule(kernel, ResidencySettings(resident, batch), "cpu", memory)


@pytest.mark.parametrize(
    ("terms", "shape", "tile", "boundary", "batch"),
    [
        # Last tiles of either axis shorter; canvases shorter than a tile; a place that terms look at; all borders.
        (["mixed0"], (150, 211), 64, "reflect", 1),
        (["mixed0"], (150, 211), 64, "wrap", 3),
        (["mixed0", "0.5*mixed1"], (67, 300), 96, "wrap_x", 2),
        ([{"layer": "mixed0", "channels": 3, "at": [0.4, 0.6]}], (161, 130), 48, "wrap", 2),
        ([{"layers": ["conv2d_2b_3x3", "mixed0"], "texture": "sample:coffee"}], (150, 131), 64, "wrap_x", 2),
        ([{"layers": ["mixed0"], "texture": "sample:coffee"}], (150, 131), 64, "reflect", 1),
    ],
)
def test_a_resident_gradient_is_that_of_the_host_and_that_of_the_whole(
    terms: list, shape: tuple[int, int], tile: int, boundary: str, batch: int, inception: Loaded
) -> None:
    """Equal to the last bit with one worker and with three, with jitter."""
    objective = resolve(terms, inception.architecture, Library("inception_v3", SourceConfig()))
    kernel = kernel_of(inception, objective)
    grid, canvas, jitter = make_grid(inception, objective, shape, tile, boundary), photo(*shape), (6, 3)
    residency = residency_of(kernel, batch)
    alone, several = (
        tiled_gradient(kernel, inception, grid, canvas, jitter, workers, residency=residency) for workers in (1, 3)
    )
    np.testing.assert_array_equal(several, alone)
    assert_equal(alone, untiled_gradient(inception, objective, grid, canvas, jitter), terms)
    host = tiled_gradient(kernel, inception, grid, canvas, jitter)
    assert_equal(alone, host, terms)
    if batch == 1:
        # The very same program.
        np.testing.assert_array_equal(alone, host)


SMALL = ("objective.terms=[mixed0]", "output.width=180", "tiles.size=64", "octaves.steps=2")


@pytest.fixture(scope="module")
def kernel(inception: Loaded) -> Kernel:
    return kernel_of(inception, resolve(["mixed0"], inception.architecture))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        (),
        ("conditioning.normalize=std", "conditioning.luminance_only=true", "boundary.mode=wrap"),
        ("conditioning.decorrelate=1", "conditioning.shoulder=[0,48]"),
    ],
)
def test_resident_dreams_are_the_same_from_any_number_of_workers_and_after_a_stop(
    words: tuple[str, ...], kernel: Kernel, tmp_path: Path
) -> None:
    """Two octaves, compared with the host's dream, whose sums are rounded otherwise."""
    words_of_job, residency = (*SMALL, *words), residency_of(kernel, 2)
    with chunks_of(64):
        host = Dream(tmp_path / "host", *words_of_job)
        expected, _ = host.run(kernel=kernel)
        alone = Dream(tmp_path / "alone", *words_of_job)
        canvas, _ = alone.run(workers=1, kernel=kernel, residency=residency)
        stopped = Dream(tmp_path / "stopped", *words_of_job)
        count = Stop()
        several, _ = Dream(tmp_path / "several", *words_of_job).run(count, workers=4, kernel=kernel, residency=residency)
        stopped.stopped(Stop(int(0.8 * count.calls)), workers=4, kernel=kernel, residency=residency)
        assert stopped.saved[0][0] == 1
        resumed, _ = stopped.run(workers=3, kernel=kernel, residency=residency)
    assert several.tobytes() == canvas.tobytes()
    assert resumed.tobytes() == canvas.tobytes()
    np.testing.assert_allclose(np.concatenate(alone.gradients), np.concatenate(host.gradients), rtol=1e-4)
    assert np.abs(canvas - expected).mean() < 1e-3
    assert np.abs(canvas - alone.source).mean() > 1


def assignment(grid: Grid, objective: Objective, loaded: Loaded) -> Assignment:
    """The only worker's."""
    blocks = deal_blocks(grid, 1)
    kernel_inputs = KernelInputs(0, objective.factors(loaded.architecture, grid.extended_shape))
    return Assignment(
        0, 0, blocks[0], Gathering.of(margin_pieces(blocks[0], blocks), 0), {}, Stage(2, 1.5), (kernel_inputs,)
    )


@pytest.fixture
def worker(kernel: Kernel, inception: Loaded) -> Worker:
    """With a block that has made a step; every border mirrors pixels of its own."""
    objective = kernel.objectives[0]
    grid = make_grid(inception, objective, (150, 211), 64, "reflect")
    still = Still(photo(150, 211))
    worker = Worker(kernel, still, kernel.objectives, inception.architecture, residency=residency_of(kernel, 2))
    worker.begin_octave(assignment(grid, objective, inception))
    step(worker, 0)
    return worker


def step(worker: Worker, number: int) -> None:
    worker.fill_margin()
    ascended = worker.compute_gradient(number, (number, 2), list(worker.arrays.block.tiles()))
    total, weight = np.sum([tile.sums for tile in ascended.sums], axis=0)
    worker.update(number, [total / weight])


def test_within_a_step_nothing_but_numbers_passes_between_host_and_device(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No implicit transfer, and explicit ones of a few bytes for each tile.

    Positions go to the device, sums come back.
    """
    sent: list[int] = []

    def counted(transfer: Any) -> Any:
        def count(values: Any) -> Any:
            transferred = transfer(values)
            sent.extend(leaf.nbytes for leaf in jax.tree.leaves(transferred))
            return transferred

        return count

    monkeypatch.setattr(jax, "device_put", counted(jax.device_put))
    monkeypatch.setattr(jax, "device_get", counted(jax.device_get))
    before = worker.read([worker.arrays.block.pixels])[0]
    sent.clear()
    with jax.transfer_guard("disallow"):
        step(worker, 1)
    # Twelve tiles, of 4 bytes for each of 64 rows, and less than that of all else.
    assert 12 * 4 * 64 <= sum(sent) < 3 * 12 * 4 * 64
    after = worker.read([worker.arrays.block.pixels])[0]
    assert 1 < np.abs(after - before).mean() < 2


def test_a_step_writes_canvas_and_gradient_where_they_were(worker: Worker) -> None:
    """Donated: what was there before is gone, and what is there now lies at the same address."""
    block = worker.arrays
    assert isinstance(block, ResidentBlock)

    def held() -> list[jax.Array]:
        assert block._canvas is not None
        return [block._canvas, *block.device.slots]

    before = held()
    addresses = [array.unsafe_buffer_pointer() for array in before]
    step(worker, 1)
    assert all(array.is_deleted() for array in before)
    assert [array.unsafe_buffer_pointer() for array in held()] == addresses


def test_jitter_compiles_nothing(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """Windows lie elsewhere at every step, and the programs are the same."""

    def compiled() -> list[str]:
        return [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]

    with jax.log_compiles():
        for number in range(1, 4):
            step(worker, number)
        assert compiled() == []
        # What is new would have been said.
        jax.jit(lambda x: x + 1.5)(np.float32(2))
        assert compiled()


def test_the_canvas_comes_back_for_the_next_octave(worker: Worker) -> None:
    block = worker.arrays
    canvas, source = worker.read([block.block.pixels])[0], photo(150, 211)
    worker.end_octave()
    (detail,) = worker.read_detail([block.block.pixels])
    np.testing.assert_array_equal(detail, canvas - source)
    assert np.abs(detail).mean() > 0.5


def test_a_gradient_that_is_not_finite_names_its_tile(worker: Worker) -> None:
    """The first in the order of tiles; and what is given anew is heeded."""
    (kernel_inputs,) = worker.arrays.assignment.kernel_inputs
    worker.choose((replace(kernel_inputs, factors=(np.inf,)),))
    with pytest.raises(NumericalError, match=r"octave 1, step 2, tile 4 \(row 1, column 0\)"):
        worker.compute_gradient(1, (0, 0), list(worker.arrays.block.tiles_from(4, 100)))


def test_a_cpu_steps_blocks_on_the_host_unless_it_is_told_and_has_the_memory(kernel: Kernel, inception: Loaded) -> None:
    objective = kernel.objectives[0]
    grid = make_grid(inception, objective, (150, 211), 64, "reflect")
    plain = assignment(grid, objective, inception)
    assert residency_of(kernel).program(plain) is not None
    # By itself a CPU keeps to the host; blocks that have outgrown its memory cannot be kept there.
    assert residency_of(kernel, resident="auto").program(plain) is None
    assert residency_of(kernel, resident=False).program(plain) is None
    outgrown = replace(plain, directory=Path("/nowhere"))
    assert "farm.worker.resident=true" in refusal(lambda: residency_of(kernel).program(outgrown))


def test_a_block_that_does_not_fit_is_refused_where_it_was_asked_for(kernel: Kernel, inception: Loaded) -> None:
    """An accelerator with room for the canvas and not for windows.

    With `auto` the block stays on the host.
    """
    objective = kernel.objectives[0]
    work = assignment(make_grid(inception, objective, (150, 211), 64, "reflect"), objective, inception)
    for memory in (1_000_000, 12_000_000):
        required, auto = (ResidencyRule(kernel, ResidencySettings(resident), "gpu", memory) for resident in (True, "auto"))
        message = refusal(lambda required=required: required.program(work))
        assert "farm.worker.resident=true" in message
        assert "211 x 150 px" in message
        assert auto.program(work) is None
    assert ResidencyRule(kernel, ResidencySettings(), "gpu", MEMORY).program(work) is not None


def test_windows_go_together_while_a_device_has_room_and_is_not_full() -> None:
    """About four megapixels a call, and never more than memory or 16."""
    residence, window = ResidencySettings(), (1000, 1000)
    assert residence.windows_per_call("gpu", window, 10**9, 10**11) == 4
    assert residence.windows_per_call("gpu", window, 10**9, 25 * 10**8) == 2
    assert residence.windows_per_call("gpu", window, 10**9, 10) == 1
    assert residence.windows_per_call("tpu", (100, 100), 10**6, 10**11) == 16
    assert residence.windows_per_call("gpu", (3000, 3000), 10**9, 10**11) == 1
    assert residence.windows_per_call("cpu", window, 10**9, 10**11) == 1
    for platform, batch in itertools.product(("cpu", "gpu"), (1, 5)):
        assert ResidencySettings(batch=batch).windows_per_call(platform, window, 10**9, 10) == batch


def tiles_at_once(executor: Executor) -> list[int]:
    """For every worker, the number of windows that its block computes at once."""
    if isinstance(executor, InlineExecutor):
        return [process._worker.arrays.tiles_at_once for process in executor._workers]
    return ray.get(
        [
            member.handle.__ray_call__.remote(lambda actor: actor._process._worker.arrays.tiles_at_once)
            for member in executor.members
        ]
    )


@pytest.mark.slow
def test_a_job_asks_its_workers_for_resident_blocks(tmp_path: Path) -> None:
    """From the config to workers in processes of their own: the same bytes from one and two."""
    words_of_job = (*JOB, "octaves.steps=2", "objective.terms=[mixed0]", "farm.worker.resident=true", "farm.worker.batch=2")
    canvases = []
    for name, words in (("inline", ["farm.executor=inline"]), ("ray", ["farm.workers=2"])):
        with prepared(draft(load_config("preview", [*words_of_job, *words, f"output.dir={tmp_path / name}"]))) as job:
            canvases.append(dreamed(job, job.conductor()))
            # What a host's block would have one of.
            assert tiles_at_once(job.executor) == [2] * (1 if name == "inline" else 2)
    np.testing.assert_array_equal(*canvases)
