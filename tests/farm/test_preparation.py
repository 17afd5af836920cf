"""Programs of octaves to come: made in the background, and then used without waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, resolve
from render.dreaming.programs import Programs
from render.dreaming.stage import Stage
from render.farm.messages import Assignment
from render.farm.worker.preparation import OctavePreparation
from render.farm.worker.resident_block import ResidencyRule
from render.geometry.blocks import Gathering, deal_blocks, margin_pieces
from render.geometry.geometry import KernelShape
from render.networks.network import Network
from render.networks.weights import Loaded
from render.planning.residence import ResidencySettings
from render.storage.program_files import ProgramFiles
from render.system.machine import cores
from tests.support.untiled import make_grid

LAYER = "conv2d_1a_3x3"
SHAPES = ((48, 56), (64, 80))
MEMORY = 64 * 10**9


@pytest.fixture
def new_kernel(inception: Loaded, tmp_path: Path) -> Callable[[], Kernel]:
    """Return a kernel as a new process would make it, with the same directory of programs each time."""
    objectives = (resolve([LAYER], inception.architecture),)

    def make() -> Kernel:
        network = Network(inception.architecture.truncated([LAYER]), inception.parameters)
        return Kernel(Programs(network, files=ProgramFiles(tmp_path / "programs")), objectives, inception)

    return make


@pytest.fixture
def assignments(inception: Loaded) -> list[Assignment]:
    """The work of a worker that is alone, at two octaves."""
    objective = resolve([LAYER], inception.architecture)
    work = []
    for octave, shape in enumerate(SHAPES):
        (block,) = blocks = deal_blocks(make_grid(inception, objective, shape, 32, "reflect"), 1)
        margin = Gathering.of(margin_pieces(block, blocks), 0)
        work.append(Assignment(0, octave, block, margin, (), Stage(1, 1.0), (KernelInputs(0, (1.0,)),)))
    return work


def prepare(kernel: Kernel, residency: ResidencyRule, platform: str, assignments: Sequence[Assignment]) -> None:
    """Prepare in the background, and wait until that is done."""
    before = set(threading.enumerate())
    OctavePreparation(kernel, residency, platform).start(assignments)
    for thread in set(threading.enumerate()) - before:
        thread.join()


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize(("resident", "batch"), [(False, 1), (True, 1), (True, 2)])
def test_one_process_compiles_ahead_and_the_next_one_loads_ahead(
    resident: bool, batch: int, platform: str, new_kernel: Callable[[], Kernel], assignments: list[Assignment]
) -> None:
    """On the host, and for blocks on the device, one window a call or several. No step waits, and none traces."""
    traced = []
    for _ in range(2):
        kernel = new_kernel()
        residency = ResidencyRule(kernel, ResidencySettings(resident, batch), "cpu", MEMORY)
        prepare(kernel, residency, platform, assignments)
        counts = kernel.programs.executables.counts
        assert counts.waited == 0
        made = counts.traced, counts.loaded
        for assignment in assignments:
            if residency.program(assignment) is None:
                kernel.prepare(assignment.block.grid, assignment.kernel_inputs[0])
        assert (counts.traced, counts.loaded) == made
        assert counts.waited < counts.seconds
        traced.append(made)
    programs = len({KernelShape.of(assignment.block.grid) for assignment in assignments})
    assert traced == [(programs, 0), (0, programs)]


def test_a_worker_compiles_as_many_at_once_as_it_has_threads(
    new_kernel: Callable[[], Kernel], assignments: list[Assignment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sharing a machine, it has a part of the cores."""
    for threads in sorted({1, min(2, cores())}):
        monkeypatch.setenv("NPROC", str(threads))
        kernel, before = new_kernel(), set(threading.enumerate())
        together = threading.Barrier(threads + 1)
        monkeypatch.setattr(type(kernel), "prepare", lambda *_arguments, barrier=together: barrier.wait(60))
        residency = ResidencyRule(kernel, ResidencySettings(), "cpu", MEMORY)
        OctavePreparation(kernel, residency, "cpu").start(assignments)
        started = set(threading.enumerate()) - before
        assert len(started) == threads
        for _ in range(len(assignments) // threads):
            together.wait(60)
        for thread in started:
            thread.join(60)


def test_an_octave_that_cannot_be_prepared_keeps_no_other_from_it(
    new_kernel: Callable[[], Kernel], assignments: list[Assignment], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = new_kernel()
    residency = ResidencyRule(kernel, ResidencySettings(), "cpu", MEMORY)
    usual = ResidencyRule.program

    def refuse_first(self: ResidencyRule, assignment: Assignment) -> object:
        if assignment.octave == 0:
            raise RuntimeError("out of memory")
        return usual(self, assignment)

    monkeypatch.setattr(ResidencyRule, "program", refuse_first)
    prepare(kernel, residency, "gpu", assignments)
    assert kernel.programs.executables.counts.traced == 1


def test_a_stopped_preparation_begins_no_octave(new_kernel: Callable[[], Kernel], assignments: list[Assignment]) -> None:
    kernel = new_kernel()
    preparation = OctavePreparation(kernel, ResidencyRule(kernel, ResidencySettings(), "cpu", MEMORY), "cpu")
    preparation.stop()
    before = set(threading.enumerate())
    preparation.start([])
    assert set(threading.enumerate()) <= before
