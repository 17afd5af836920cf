"""Farms that come and go: nodes that leave and join, room that is not there, workers that fail again and again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.exceptions import RayActorError

from render.config.compose import load_config
from render.config.schema import FarmConfig
from render.errors import UserError
from render.farm.events import Event, Noticed, OctaveDone, OctaveStarted, Recovered, Saved, StepDone
from render.farm.executors import Executor
from render.farm.ray.actors import Member
from render.farm.ray.pool import RayFarm
from render.farm.ray.starter import WorkerStarter
from render.geometry.geometry import Rect
from render.job.job import Draft, draft, prepared
from render.system.machine import cores
from tests.conftest import dreamed_here
from tests.support.farm_job import JOB, dreamed
from tests.support.metadata_server import metadata_service


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A Ray cluster of real nodes on this machine; its head has no CPU to lend."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def bare(cluster: Cluster) -> Cluster:
    """The cluster without the nodes of the tests before."""
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node)
    return cluster


@pytest.mark.slow
def test_a_process_that_had_a_ray_of_its_own_joins_a_cluster(bare: Cluster) -> None:
    """A Ray of its own asks for a token, which this cluster's processes do not have."""
    node = bare.add_node(num_cpus=1)
    RayFarm(FarmConfig(workers=1), threads=1).close()
    farm = RayFarm(FarmConfig(address=bare.address, retries=0), threads=1)
    assert farm.size == 1
    farm.close()
    bare.remove_node(node)


@pytest.mark.slow
def test_nodes_that_leave_and_join(tmp_path: Path, cluster: Cluster) -> None:
    """A node is removed in mid-step, and the render goes on with the other one.

    A node joins, for which nobody waits, and works from the checkpoint on before which it was ready.
    """
    cluster.add_node(num_cpus=1)
    second = cluster.add_node(num_cpus=1)
    farm = RayFarm(FarmConfig(address=cluster.address, retries=3), threads=cores())
    events: list[tuple[str, int]] = []
    # So many that the node goes long before the octave ends.
    steps = "octaves.steps=20"
    try:
        job_draft = draft(load_config("preview", [*JOB, steps, "farm.address=auto", f"output.dir={tmp_path / 'run'}"]))
        with prepared(job_draft, farm) as job:
            assert job.executor.workers == 2

            def watch(event: Event) -> None:
                if isinstance(event, (OctaveStarted, Recovered)):
                    events.append((type(event).__name__, event.workers))
                if isinstance(event, Saved) and (event.octave.index, event.steps) == (0, 2):
                    # The next step is under way by the time that the node goes.
                    threading.Timer(0.2, cluster.remove_node, (second,), {"allow_graceful": False}).start()
                if isinstance(event, OctaveDone) and event.octave.index == 0:
                    cluster.add_node(num_cpus=1)
                if isinstance(event, Saved) and (event.octave.index, event.steps) == (1, 1):
                    await_joining(job.executor)

            canvas = dreamed(job, job.conductor(), watch)
            assert job.executor.workers == 2
    finally:
        farm.close()
    np.testing.assert_array_equal(canvas, dreamed_here(tmp_path / "here", steps))
    assert events == [
        ("OctaveStarted", 2),
        ("Recovered", 1),
        ("OctaveStarted", 1),
        ("OctaveStarted", 1),
        ("OctaveStarted", 2),
    ]


def await_joining(executor: Executor) -> None:
    """Wait until a worker has started in the background: the steps of a test's job are over sooner."""
    deadline = time.monotonic() + 60
    while not executor.joining():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def drain(cluster: Cluster, node: str, seconds: int) -> None:
    """Have Ray empty a node, as an autoscaler does, or a node that is told to stop."""
    words = ["--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--address", cluster.address, *words]
    subprocess.run([*command, "--deadline-remaining-seconds", str(seconds)], check=True, capture_output=True)


@pytest.mark.slow
def test_a_node_about_to_go_is_saved_from_and_left(expected: np.ndarray, tmp_path: Path, bare: Cluster) -> None:
    """Ray empties a node in the middle of a step: the canvas is saved, and nothing is lost or counted a failure.

    Checkpoints are far apart: only the notice has the canvas saved.
    """
    nodes = [bare.add_node(num_cpus=1) for _ in range(2)]
    farm = RayFarm(FarmConfig(address=bare.address, retries=0), threads=cores())
    events: list[tuple[str, int]] = []
    steps: list[tuple[int, int]] = []
    notices: list[Noticed] = []
    try:
        words = [*JOB, "farm.address=auto", "checkpoint.every=1000", f"output.dir={tmp_path / 'run'}"]
        with prepared(draft(load_config("preview", words)), farm) as job:

            def watch(event: Event) -> None:
                if isinstance(event, (OctaveStarted, Recovered, Noticed)):
                    events.append((type(event).__name__, event.workers))
                if isinstance(event, StepDone):
                    steps.append((event.octave.index, event.step))
                    if steps[-1] == (0, 0):
                        drain(bare, nodes[1].node_id, 100)
                        while not job.executor.notices():
                            time.sleep(0.1)
                if isinstance(event, Noticed):
                    notices.append(event)

            canvas = dreamed(job, job.conductor(), watch)
            assert job.executor.workers == 1
    finally:
        farm.close()
    np.testing.assert_array_equal(canvas, expected)
    assert events == [("OctaveStarted", 2), ("Noticed", 1), ("OctaveStarted", 1), ("OctaveStarted", 1)]
    (notice,) = notices
    assert notice.gone == 1
    assert notice.saved
    assert re.fullmatch(r"Ray is emptying its node, in \d+ s", notice.reason)
    # No step was made twice.
    assert steps == [(octave, step) for octave in range(2) for step in range(3)]


@pytest.mark.slow
def test_when_all_nodes_are_about_to_go_it_says_how_to_go_on(
    tmp_path: Path, bare: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cloud gives notice, of which Ray knows nothing, and no other node comes in time."""
    with metadata_service() as service:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
        monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
        bare.add_node(num_cpus=1)
        farm = RayFarm(FarmConfig(address=bare.address, timeout=2), threads=cores())
        try:
            words = [*JOB, "farm.address=auto", "checkpoint.every=1000", f"output.dir={tmp_path / 'run'}"]
            with prepared(draft(load_config("preview", words)), farm) as job:

                def watch(event: Event) -> None:
                    if isinstance(event, StepDone) and (event.octave.index, event.step) == (0, 1):
                        service.action = '{"action": "terminate", "time": "2017-09-18T08:22:00Z"}'
                        deadline = time.monotonic() + 60
                        while not job.executor.notices():
                            assert time.monotonic() < deadline
                            time.sleep(0.1)

                with pytest.raises(UserError, match=r"no other came within 2 s.*the same command goes on from it"):
                    dreamed(job, job.conductor(), watch)
                read = job.resolved.directory.checkpoints.read()
                assert read is not None
                # The workers may have done another step while the notice came.
                assert (read[1][0].octave, read[1][0].steps) in ((0, 2), (0, 3))
                # The room that was made is not used again, though Ray offers it.
                assert farm._starter.placement.room() == 0
        finally:
            farm.close()


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_that_dies_while_it_starts_is_started_again(
    deaths: int, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config's `farm.retries` says how often."""
    cluster.add_node(num_cpus=1)
    create, born = WorkerStarter._create, []

    def create_and_kill(self: WorkerStarter, node: str | None) -> Any:
        born.append(create(self, node))
        if len(born) <= deaths:
            ray.kill(born[-1].handle)
        return born[-1]

    monkeypatch.setattr(WorkerStarter, "_create", create_and_kill)
    config = FarmConfig(address=cluster.address, workers=1, retries=1)
    if deaths == 1:
        farm = RayFarm(config, threads=1)
        assert farm.size == 1
        farm.close()
    else:
        with pytest.raises(
            UserError, match=r"cannot be started, after 1 retries: Ray ended it .*cancelled before it started"
        ):
            RayFarm(config, threads=1)
    assert len(born) == 2


@pytest.mark.slow
def test_a_cluster_without_room_is_refused_in_time_and_says_what_there_is(cluster: Cluster) -> None:
    cluster.add_node(num_cpus=1)
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"2 workers of 1 GPU.*0 GPU.*room for 0"):
        config = FarmConfig(address=cluster.address, workers=2, timeout=3)
        config.worker.num_gpus = 1
        RayFarm(config, threads=1)
    assert 3 <= time.monotonic() - begun < 60


class Deadly:
    """A source that is the end of every process that asks for it but the first: by turns killed, and out of memory."""

    def __init__(self, source: Any, directory: Path) -> None:
        self.source, self.directory = source, directory
        self.size, self.sha256, self.nbytes = source.size, source.sha256, source.nbytes
        self.disk_bytes, self.prepare, self.discard = source.disk_bytes, source.prepare, source.discard

    def at(self, shape: tuple[int, int], rect: Rect) -> np.ndarray:
        try:
            (self.directory / "first").touch(exist_ok=False)
            (self.directory / f"{os.getpid()}").touch()
        except FileExistsError:
            if not (self.directory / f"{os.getpid()}").exists():
                if (self.directory / "killed").exists():
                    raise MemoryError("no memory for this") from None
                (self.directory / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.source.at(shape, rect)


def with_source(job_draft: Draft, source: Any) -> Draft:
    """Return the draft with another source, which its plan does not know."""
    return replace(job_draft, resolved=replace(job_draft.resolved, source=source))


@pytest.fixture(scope="module")
def frail() -> Iterator[RayFarm]:
    """Return two workers that may fail once each between two checkpoints."""
    farm = RayFarm(FarmConfig(workers=2, retries=1), threads=cores(), store_bytes=300_000_000)
    yield farm
    farm.close()


@pytest.mark.slow
def test_nobody_waits_for_a_worker_that_does_not_start(frail: RayFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is begun once, and let go with the lease."""

    @ray.remote(num_cpus=1000)
    class Never:
        def start(self) -> None:
            """There is no room for it."""

    begun: list[Member] = []

    def begin(_self: WorkerStarter, count: int, _members: Sequence[Member]) -> list[Member]:
        handles = [Never.remote() for _ in range(count)]
        new = [Member(handle, None, handle.start.remote()) for handle in handles]
        begun.extend(new)
        return new

    monkeypatch.setattr(WorkerStarter, "begin", begin)
    with frail.lease(2) as executor:
        spare = executor.members.pop()
        started = time.monotonic()
        assert [executor.grow(), executor.joining(), executor.grow()] == [0, 0, 0]
        assert time.monotonic() - started < 5
        assert len(begun) == 1
        executor.members.append(spare)
    with pytest.raises(RayActorError):
        ray.get(begun[0].ready, timeout=30)
    # On this machine nobody gives notice, and nobody is asked for it.
    assert frail._cluster._notice_watch is None


@pytest.mark.slow
def test_a_worker_that_fails_again_and_again_is_set_aside(
    frail: RayFarm, expected: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job_draft = draft(load_config("preview", [*JOB, f"output.dir={tmp_path / 'run'}"]))
    (tmp_path / "alive").mkdir()
    leased = []

    def lease_both() -> None:
        with frail.lease(2) as executor:
            leased.append(executor.workers)

    with (
        caplog.at_level("INFO", "render"),
        prepared(with_source(job_draft, Deadly(job_draft.resolved.source, tmp_path / "alive")), frail) as job,
    ):
        waiting = threading.Thread(target=lease_both)
        waiting.start()
        canvas = dreamed(job, job.conductor())
        assert job.executor.workers == 1
    assert frail.size == 1
    # Who waited for two workers is not left waiting for one that will not come.
    waiting.join(30)
    assert leased == [1]
    np.testing.assert_array_equal(canvas, expected)
    assert caplog.text.count("since the last checkpoint") == 2
    assert "set aside" in caplog.text
    assert "since the last checkpoint: its process died" in caplog.text
    assert "since the last checkpoint: out of memory" in caplog.text


@pytest.mark.slow
def test_when_no_worker_survives_the_reason_is_told(frail: RayFarm, tmp_path: Path) -> None:
    job_draft = draft(load_config("preview", [*JOB, f"output.dir={tmp_path / 'run'}"]))
    (tmp_path / "alive").mkdir()
    (tmp_path / "alive" / "first").touch()
    with (
        prepared(with_source(job_draft, Deadly(job_draft.resolved.source, tmp_path / "alive")), frail) as job,
        pytest.raises(UserError, match=r"no worker is left after 1 retries \(the last: (its process died|out of memory)"),
    ):
        dreamed(job, job.conductor())
    # The next job does not wait for workers that are gone.
    with frail.lease() as executor:
        assert executor.workers == 2
