"""Kernel shapes that octaves share on accelerators: few, exact, and at little more work; CPUs keep a shape an octave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render.config.compose import load_config
from render.geometry.geometry import KernelShape
from render.job import resources
from render.job.job import draft, prepared
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3
from render.planning import planner, shared_shapes
from render.planning.auto_tiles import _window_work
from render.planning.plan import Machine, Plan
from render.planning.shared_shapes import MAX_EXTRA_WORK
from tests.conftest import INLINE
from tests.planning.test_plan import job, plan
from tests.support.farm_job import dreamed

H200 = Machine(host_bytes=10**12, device_bytes=126 * 10**9, disk_free=10**15, shares_memory=False)


def shapes(planned: Plan) -> int:
    return len({KernelShape.of(octave.grid) for octave in planned.octaves})


def work(planned: Plan) -> int:
    return sum(octave.steps * octave.grid.tiles * _window_work(octave.grid) for octave in planned.octaves)


def pair(width: int, height: int, layer: str, machine: Machine = H200, network=INCEPTION_V3) -> tuple[Plan, Plan]:
    """Return the plan as it is, and that in which no octaves share a shape."""
    config = job(output={"width": width, "height": height}, octaves={"count": "auto", "scale": 1.4})
    shared = plan(config, (layer,), machine=machine, network=network)
    with mock.patch.object(planner, "_sharing", lambda *_: None):
        return shared, plan(config, (layer,), machine=machine, network=network)


@pytest.mark.parametrize(
    ("network", "layer", "most"),
    [(INCEPTION_V3, "mixed0", 5), (GOOGLENET, "inception_4c", 11), (INCEPTION_V3, "mixed5", 12)],
)
def test_octaves_of_a_gigapixel_share_shapes(network, layer: str, most: int) -> None:
    shared, alone = pair(40_000, 25_000, layer, network=network)
    assert shapes(shared) <= most < shapes(alone) == len(alone.octaves)
    assert work(shared) <= (1 + MAX_EXTRA_WORK) * work(alone)
    assert [octave.shape for octave in shared.octaves] == [octave.shape for octave in alone.octaves]
    assert shared.kernel_bytes <= H200.kernel_limit


@settings(max_examples=15)
@given(
    st.integers(200, 30_000),
    st.integers(200, 30_000),
    st.sampled_from(["conv2d_2b_3x3", "mixed0", "mixed3"]),
    st.integers(10**9, 10**12),
)
def test_shared_shapes_cost_little_and_fit(width: int, height: int, layer: str, memory: int) -> None:
    machine = replace(H200, device_bytes=memory)
    shared, alone = pair(width, height, layer, machine)
    assert shapes(shared) <= shapes(alone)
    assert work(shared) <= (1 + MAX_EXTRA_WORK) * work(alone)
    assert shared.kernel_bytes <= machine.kernel_limit
    for octave in shared.octaves:
        assert octave.grid.rows.window <= octave.grid.rows.extended
        assert octave.grid.columns.window <= octave.grid.columns.extended


def test_octaves_smaller_than_two_halos_keep_their_whole_canvas_as_window() -> None:
    shared, _ = pair(40_000, 25_000, "mixed5")
    small = [octave for octave in shared.octaves if max(octave.shape) < 2 * shared.halo]
    assert len(small) > 2
    assert all(octave.grid.window_shape == octave.grid.extended_shape for octave in small)


def test_cpus_keep_a_shape_for_each_octave() -> None:
    shared, alone = pair(6000, 5000, "mixed0", replace(H200, shares_memory=True, device_bytes=16 * 10**9))
    assert shared == alone
    assert shapes(shared) == len(shared.octaves)


def test_a_dream_with_shared_shapes_is_that_with_own_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The canvas is the same but for rounding, and fewer programs are compiled."""
    words = [
        "image=sample:chelsea", "output.width=240", "output.height=208", "octaves.count=4", "octaves.scale=1.2",
        "octaves.steps=1", "objective.terms=[conv2d_2b_3x3]", "farm.worker.resident=false", INLINE,
    ]  # fmt: skip
    # Sizes at which sharing would pay are too large for a test.
    monkeypatch.setattr(shared_shapes, "MAX_EXTRA_WORK", 2.0)
    canvases, counts = [], []
    machine = resources.farm_machine
    for name, shares_memory in (("cpu", True), ("accelerator", False)):
        monkeypatch.setattr(
            resources, "farm_machine", lambda *facts, own=shares_memory: replace(machine(*facts), shares_memory=own)
        )
        with prepared(draft(load_config("preview", [*words, f"output.dir={tmp_path / name}"]))) as prepared_job:
            canvases.append(dreamed(prepared_job, prepared_job.conductor()))
            counts.append(shapes(prepared_job.plan))
    assert counts[1] < counts[0] == 4
    assert np.abs(canvases[0] - canvases[1]).max() < 0.01
    assert np.abs(canvases[0] - canvases[0].mean()).max() > 50
