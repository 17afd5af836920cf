"""Devices of workers: several of one worker, unusable ones, TPU slices, and versions on both sides."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from ray._private.accelerators.tpu import TPUAcceleratorManager
from ray.cluster_utils import Cluster

from render.config.schema import Config, FarmConfig, WorkerConfig
from render.config.validation import validate
from render.farm.messages import GradientReport
from render.farm.ray import starter
from render.farm.ray.demands import Demand
from render.farm.ray.pool import RayFarm
from render.farm.ray.startup import join
from render.farm.ray.tpu_slices import bound_visible_chips, hidden_chips, multi_host_slice
from render.farm.worker.stepping import next_tile_count
from render.planning.plan import Machine
from tests.conftest import ROOT, TINY, refusal
from tests.planning.test_plan import plan


def render_on(devices: int, directory: Path, *words: str) -> tuple[np.ndarray, list[int]]:
    """The float canvas of the farm's test job from processes with so many devices each, and how many each worker says."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "RENDER_OVERRIDES": "",
    }
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.support.several_devices",
            str(directory / "run"),
            str(directory / "canvas.npy"),
            *words,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return np.load(directory / "canvas.npy"), json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.slow
def test_several_devices_make_the_same_floats_as_one(expected: np.ndarray, tmp_path: Path) -> None:
    """Twenty tiles on three devices, so that the last batch is short."""
    canvas, devices = render_on(3, tmp_path, "farm.executor=inline")
    assert devices == [3]
    np.testing.assert_array_equal(canvas, expected)


@pytest.mark.slow
def test_two_workers_with_two_devices_each_make_the_same_floats(expected: np.ndarray, tmp_path: Path) -> None:
    canvas, devices = render_on(2, tmp_path, "farm.workers=2")
    assert devices == [2, 2]
    np.testing.assert_array_equal(canvas, expected)


#: Two regions whose objectives differ: one needs the source under the window, one sums over the source and the canvas.
MIXED = (
    "farm.executor=inline",
    "octaves.count=1",
    "octaves.steps=2",
    "objective.terms=[{layer: mixed0, caricature: true}]",
    "objective.regions=[{mask: MASK, terms: [{layer: mixed1, strongest: 3}, {layer: mixed0, texture: 'sample:coffee'}]}]",
)


@pytest.mark.slow
def test_a_batch_has_the_source_places_and_channels_that_its_objective_looks_at(tmp_path: Path) -> None:
    from PIL import Image

    shade = np.tile(np.linspace(0, 255, 192, dtype=np.uint8), (240, 1))
    Image.fromarray(shade).save(tmp_path / "mask.png")
    words = [word.replace("MASK", str(tmp_path / "mask.png")) for word in MIXED]
    canvases = []
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        canvases.append(render_on(devices, tmp_path / str(devices), *words)[0])
    np.testing.assert_array_equal(*canvases)


@pytest.mark.parametrize(
    ("worker", "platform", "fits"),
    [
        (Demand(1, 1), "cuda", 8),
        (Demand(1, 4), "cuda", 2),
        (Demand(1, 8), "cuda", 1),
        (Demand(1, 0.5), "cuda", 16),
        (Demand(1, 0, {"TPU": 1}), "tpu", 4),
        (Demand(1, 0, {"TPU": 4}), "tpu", 1),
        (Demand(1, 0, {"TPU": 8}), "tpu", 0),
    ],
)
def test_a_node_has_room_for_workers_with_several_devices_each(worker: Demand, platform: str, fits: int) -> None:
    assert worker.platform == platform
    assert worker.fits({"Resources": {"CPU": 64, "GPU": 8, "TPU": 4}}) == fits


def test_what_a_worker_with_several_devices_needs_is_planned_for_each_of_them() -> None:
    """Tiles are as one device has them; windows take host memory for all, and so do kernels where memory is shared."""
    for shares in (False, True):
        single = Machine(64 * 10**9, 16 * 10**9, 10**12, shares_memory=shares)
        alone, four = (plan(validate(Config()), machine=replace(single, devices=devices)) for devices in (1, 4))
        assert four.final.grid == alone.final.grid
        assert four.kernel_bytes == alone.kernel_bytes
        windows = 12 * 14 * math.prod(alone.final.grid.window_shape)
        assert four.worker_bytes - alone.worker_bytes == windows + (3 * alone.kernel_bytes if shares else 0)


@given(st.integers(1, 8), st.integers(1, 64), st.floats(1e-6, 1000))
def test_no_device_is_left_out_of_a_call(devices: int, tiles: int, seconds: float) -> None:
    count = next_tile_count(GradientReport((), tiles, seconds, devices))
    assert count % devices == 0
    alone = next_tile_count(GradientReport((), tiles, seconds))
    assert alone <= count < alone + devices


# TPU slices


def node(
    chips: int, kind: str | None = None, name: str | None = None, topology: str | None = None, head: str | None = None
):
    labels = {"ray.io/tpu-pod-type": kind, "ray.io/tpu-slice-name": name, "ray.io/tpu-topology": topology}
    resources: dict[str, float] = {"CPU": 24.0, **({"TPU": chips} if chips else {}), **({head: 1.0} if head else {})}
    return {"Resources": resources, "Labels": {key: value for key, value in labels.items() if value}}


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node(4, head="TPU-v6e-16-head")], ["v6e-16", "4 hosts"]),
        ([node(4, "v5litepod-16", "north", "4x4")], ["north", "v5litepod-16", "4x4", "4 hosts"]),
        ([node(4, "v4-16", "east")], ["east", "v4-16", "2 hosts"]),
        ([node(4, topology="2x2x2")], ["2x2x2", "2 hosts"]),
        # Eight chips of v6e lie on one host or on two.
        ([node(4, "v6e-8", "west", "2x4"), node(4, "v6e-8", "west", "2x4")], ["west", "2 hosts"]),
        # Nothing but the name that they share.
        ([node(4, name="south"), node(4, name="south"), node(4, name="other")], ["south", "2 hosts"]),
        ([node(0), node(4, "v6e-4", "small"), node(4, "v5p-32", "large")], ["large", "v5p-32", "4 hosts"]),
    ],
)
def test_a_slice_of_several_hosts_is_found_and_named(nodes: list[dict[str, Any]], words: list[str]) -> None:
    text = multi_host_slice(nodes)
    assert text is not None
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [node(0)],
        [node(4)],
        [node(1, "v6e-1", "a", "1x1")],
        [node(4, "v5litepod-4", "a", "2x2"), node(4, "v5litepod-4", "b", "2x2")],
        [node(8, "v6e-8", "a", "2x4", "TPU-v6e-8-head"), node(8, "v6e-8", "b", "2x4", "TPU-v6e-8-head")],
        [node(4, "v4-8", "a", "2x2x1", "TPU-v4-8-head")],
        [node(4, head="TPU-v5p-8-head")],
        # A machine beside the slices, which has its name and no chips of it.
        [node(4, "v6e-4", "a"), node(0, "v6e-4", "a")],
        # A label that somebody wrote: it says nothing.
        [node(4, "v6e"), node(4, "v6e-4-spot")],
    ],
)
def test_slices_of_one_host_are_not(nodes: list[dict[str, Any]]) -> None:
    assert multi_host_slice(nodes) is None


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (node(7, "v6e-8", "a", "2x4", "TPU-v6e-8-head"), "shows 7 of its 8 TPU chips (v6e-8)"),
        (node(7), "shows 7 of its 8 TPU chips"),
        (node(3, "v5p-8", "a", "2x2x1"), "shows 3 of its 4 TPU chips (v5p-8)"),
    ],
)
def test_a_host_that_shows_too_few_chips_is_named(shown: dict[str, Any], words: str) -> None:
    """Ray counts 7 on some machines of 8; a slice of several hosts it is not."""
    text = hidden_chips([node(8, "v6e-8"), shown | {"NodeName": "tpu-1"}])
    assert text == f"tpu-1 {words}"


def test_hosts_that_show_all_their_chips_are_not_named() -> None:
    assert hidden_chips([node(count) for count in (0, 1, 2, 4, 8)] + [node(4, "v6e-16", "a", "4x4")]) is None


@pytest.mark.parametrize(
    ("chips", "of", "expected"),
    [
        (1, 8, {"TPU_VISIBLE_CHIPS": "0", "TPU_CHIPS_PER_HOST_BOUNDS": "1,1,1", "TPU_HOST_BOUNDS": "1,1,1"}),
        (2, 8, {"TPU_VISIBLE_CHIPS": "0,1", "TPU_CHIPS_PER_HOST_BOUNDS": "1,2,1", "TPU_HOST_BOUNDS": "1,1,1"}),
        (4, 8, {"TPU_VISIBLE_CHIPS": "0,1,2,3", "TPU_CHIPS_PER_HOST_BOUNDS": "2,2,1", "TPU_HOST_BOUNDS": "1,1,1"}),
        (8, 8, {}),
        (4, 4, {}),
        (1, 1, {}),
    ],
)
def test_a_worker_says_how_its_chips_lie(
    monkeypatch: pytest.MonkeyPatch, chips: int, of: int, expected: dict[str, str]
) -> None:
    """By Ray's own function, and by ours where Ray's says nothing."""
    names = ("TPU_VISIBLE_CHIPS", "TPU_CHIPS_PER_HOST_BOUNDS", "TPU_HOST_BOUNDS")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(TPUAcceleratorManager, "get_current_node_num_accelerators", staticmethod(lambda: of))
    TPUAcceleratorManager.set_current_process_visible_accelerator_ids([str(chip) for chip in range(chips)])
    bound_visible_chips(os.environ)
    assert {name: os.environ[name] for name in names if name in os.environ} == expected


# On real nodes


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that lends nothing; one node that claims a GPU, and one that claims a host's share of a larger TPU slice."""
    with pytest.MonkeyPatch.context() as patch:
        # Where the nodes find the program, whoever connects.
        patch.setenv("PYTHONPATH", str(ROOT))
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        nodes.add_node(num_cpus=2, num_gpus=1)
        nodes.add_node(num_cpus=1, resources={"TPU": 4, "TPU-v6e-16-head": 1})
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.slow
def test_a_device_that_cannot_be_used_ends_the_command_at_once(cluster: Cluster, command) -> None:
    """Ray has the GPU in its books; JAX does not find it. No retries, no CPU in its place, one line, exit code 2."""
    begun = time.monotonic()
    finished = command(
        "render", f"farm.address={cluster.address}", "farm.workers=1", "farm.worker.num_gpus=1", "output.width=64"
    )
    finished.refused("cannot use its GPU", "make setup EXTRAS=cuda", "farm.worker.num_gpus=0")
    assert time.monotonic() - begun < 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("demand", "words"),
    [
        ("farm.worker.num_gpus=1", ("cannot use its GPU", "EXTRAS=cuda", "farm.worker.num_gpus=0")),
        ("farm.worker.resources={TPU: 4}", ("cannot use its TPU", "EXTRAS=tpu")),
    ],
)
def test_a_render_in_this_process_does_not_fall_back_to_the_cpu(demand: str, words: tuple[str, ...], command) -> None:
    command("render", *TINY, demand).refused(*words)


@pytest.mark.slow
def test_a_slice_of_several_hosts_is_refused_before_any_worker_starts(cluster: Cluster) -> None:
    config = FarmConfig(address=cluster.address, worker=WorkerConfig(resources={"TPU": 4}))
    message = refusal(lambda: RayFarm(config, threads=1))
    for word in ("v6e-16", "4 hosts", "v6e of 1, 4 or 8 chips"):
        assert word in message


@pytest.mark.slow
def test_workers_of_other_versions_are_refused_with_both_sides(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' versions are true; the driver's are made up."""
    versions = starter.own_versions()
    monkeypatch.setattr(starter, "own_versions", lambda: {**versions, "jax": "0.0.1"})
    config = FarmConfig(address=cluster.address, workers=1, worker=WorkerConfig(num_gpus=0, num_cpus=1))
    message = refusal(lambda: RayFarm(config, threads=1))
    assert "version mismatch between driver and cluster: jax 0.0.1 here" in message
    assert f"jax {versions['jax']} on" in message
    assert "python" not in message


@pytest.mark.slow
def test_a_cluster_of_another_ray_is_refused_with_both_sides(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray._private.utils, "compute_version_info", lambda: ("1.2.3", "3.9.1"))
    message = refusal(lambda: join(cluster.address))
    assert "version mismatch between driver and cluster: ray 1.2.3, python 3.9.1 here" in message
    assert f"ray {ray.__version__}, python {sys.version.split()[0]} there" in message
    ray.shutdown()
