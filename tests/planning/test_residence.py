"""What stays in a device's memory: all that people dream, as workers decide it and as plans count it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from render.config.compose import load_config
from render.dreaming.objectives import KernelInputs, resolve
from render.dreaming.optimizer import Optimizer
from render.dreaming.resident import BatchSpec
from render.dreaming.stage import Conditioning, Region, Stage
from render.farm.messages import Assignment
from render.farm.worker import resident_block
from render.farm.worker.resident_block import ResidencyRule
from render.geometry.blocks import Gathering, deal_blocks
from render.geometry.geometry import PIXEL_BYTES, Axis, Grid
from render.job.materials import Library
from render.job.resolve import plan_request, schedule_of
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.weights import MODELS, find_model
from render.planning.cost import Traffic, resides
from render.planning.plan import Machine
from render.planning.planner import make_plan
from render.planning.residence import (
    ResidencySettings,
    array_bytes,
    canvas_bytes,
    slots_bytes,
    slots_ring,
    stepping_bytes,
    update_bytes,
)
from render.system.paths import shipped_configs
from tests.planning.test_scale import NODE

ROOMY = Machine(1 << 50, 140_000_000_000, 1 << 60, shares_memory=False)
#: Usable bytes of an H200.
MEMORY = 126_000_000_000
#: (rows, columns) px of a gigapixel poster.
POSTER = (25_000, 40_000)


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (shipped_configs() / group).glob("*.yaml"))


def jobs() -> list[tuple[str, str]]:
    """Every look, and every preset with each network that it has terms for."""
    presets = [
        (model, f"objective={preset}")
        for preset in names("objective")
        for model in load_config("preview", [f"objective={preset}"]).objective.by_model or MODELS
    ]
    return [*(("", f"look={look}") for look in names("look")), *presets]


class Uncompiled:
    """Program that needs what a plan estimates."""

    def __init__(self, kernel: object, kernel_inputs: Sequence[KernelInputs], form: BatchSpec) -> None:
        self.form = form
        self.call_bytes = 10**9, form.windows * 2 * 10**9


@pytest.mark.parametrize(("model", "word"), jobs())
def test_no_look_and_no_preset_leaves_an_accelerator(model: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigapixel by one worker, by itself: every octave is resident, as the plan says and as the worker decides."""
    words = [word, *([f"model={model}"] if model else [])]
    config = replace(load_config("gigapixel", words), image="noise")
    network = find_model(config.model.name)
    schedule = schedule_of(config, network.architecture, network.default_terms, Library(config.model.name, config.source))
    plan = make_plan(plan_request(config, network.architecture, schedule, POSTER), ROOMY)
    monkeypatch.setattr(resident_block, "ResidentProgram", Uncompiled)
    programs = SimpleNamespace(network=SimpleNamespace(architecture=network.architecture, precision="float32"))
    rules = {
        devices: ResidencyRule(
            SimpleNamespace(objectives=schedule.objectives, devices=devices, programs=programs),
            ResidencySettings(),
            "gpu",
            MEMORY,
        )
        for devices in (1, 8)
    }
    node = replace(NODE, device_gb=140.0)
    for octave in plan.octaves:
        assert resides(octave, Traffic.of(octave.grid, 1), node)
        (block,) = deal_blocks(octave.grid, 1)
        inputs = tuple(KernelInputs(region.objective, (1.0,)) for region in octave.stage.regions)
        assignment = Assignment(0, octave.index, block, Gathering((), ()), (), octave.stage, inputs)
        for devices, rule in rules.items():
            program = rule.program(assignment)
            assert program is not None
            assert program.form.windows_at_once >= min(devices, octave.grid.tiles)


def test_memory_counts_every_array_that_a_block_has_on_its_device() -> None:
    """Two more gradients for a second region and a filter, masks of one channel, moments, the source with its margin."""
    axis = Axis(1000, 300, 64, 32, 16, "reflect")
    block = deal_blocks(Grid(axis, axis), 2)[0]
    canvas, slots = canvas_bytes(block), slots_bytes(block)
    assert array_bytes(block, Stage(1, 1.0), needs_source=False) == canvas + slots
    pulled = Stage(1, 1.0, conditioning=Conditioning(pull=0.1))
    assert array_bytes(block, pulled, needs_source=False) == canvas + 2 * slots
    assert array_bytes(block, pulled, needs_source=True) == 2 * canvas + slots
    conditioning = Conditioning(laplacian=4, shoulder=24)
    everything = Stage(1, 1.0, (Region(0, (0,)), Region(1)), conditioning=conditioning, optimizer=Optimizer("adam"))
    ringed = slots_bytes(block, slots_ring(conditioning))
    assert ringed > slots
    expected = canvas + 2 * (ringed + slots) + slots // 3 + slots + 2 * slots
    assert array_bytes(block, everything, needs_source=False) == expected
    lent = canvas - PIXEL_BYTES * block.pixels.area
    beside = max(5 + lent, update_bytes(block, everything))
    assert stepping_bytes(block, everything, 5, needs_source=False) == expected + beside
    assert stepping_bytes(block, everything, 10**12, needs_source=False) == expected + 10**12 + lent
    (alone,) = deal_blocks(Grid(axis, axis), 1)
    whole = array_bytes(alone, Stage(1, 1.0), needs_source=False)
    assert stepping_bytes(alone, Stage(1, 1.0), 10**12, needs_source=False) == whole + 10**12


def test_a_plan_knows_which_octaves_need_the_source_under_windows() -> None:
    config = replace(load_config("preview", []), image="noise")
    for term, needed in (("mixed0", False), ({"layer": "mixed0", "caricature": True}, True)):
        assert resolve([term], INCEPTION_V3).needs_source is needed
        schedule = schedule_of(config, INCEPTION_V3, [term])
        plan = make_plan(plan_request(config, INCEPTION_V3, schedule, (400, 400)), ROOMY)
        assert {octave.needs_source for octave in plan.octaves} == {needed}
