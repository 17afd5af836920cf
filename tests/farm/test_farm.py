"""The farm on real Ray processes: the same floats from any number of workers, whatever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray

from render.config.compose import load_config
from render.config.schema import FarmConfig
from render.errors import NodeLost, UserError, WorkersLost
from render.farm.conductor import bytes_exchanged
from render.farm.events import Event, OctaveDone, OctaveStarted, Recovered, StepDone
from render.farm.ray import node as ray_node
from render.farm.ray.pool import RayFarm
from render.farm.ray.session_directory import Session, open_session
from render.farm.ray.silence import Silence
from render.farm.worker.kernel_recipe import KernelRecipe
from render.geometry.blocks import deal_blocks
from render.job import resources
from render.job.job import Job, draft, prepared
from render.system.machine import cores
from tests.conftest import Finished, dreamed_here, refusal
from tests.support.farm_job import JOB, dreamed, stored
from tests.support.preloaded import Process, start_command


@pytest.fixture(scope="module")
def asked_to_end() -> Iterator[list[int]]:
    """Return the SIGTERMs that this process received, by a handler that was there before Ray."""
    received: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, previous)


@pytest.fixture(scope="module")
def farm(asked_to_end: list[int]) -> Iterator[RayFarm]:
    """Return five workers that these tests share, on a local Ray though the environment names a cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
        shared = RayFarm(FarmConfig(workers=5), threads=cores(), store_bytes=300_000_000)
    yield shared
    shared.close()


def test_a_ray_of_our_own_starts_no_process_that_nobody_looks_at(farm: RayFarm) -> None:
    assert farm._cluster.is_local
    commands = []
    for child in psutil.Process().children(recursive=True):
        # One may end while it is asked.
        with suppress(psutil.Error):
            commands.append(" ".join(child.cmdline()))
    assert any("raylet/raylet" in command for command in commands)
    unused = ("dashboard/dashboard.py", "autoscaler/_private/monitor.py", "log_monitor.py")
    assert [command for command in commands if any(f"{name} " in command for name in unused)] == []


def test_ray_leaves_sigterm_to_the_render(farm: RayFarm, asked_to_end: list[int]) -> None:
    """Ray's own handlers would end the process at once, with nothing saved."""
    os.kill(os.getpid(), signal.SIGTERM)
    assert asked_to_end == [signal.SIGTERM]


@dataclass(frozen=True)
class Lent:
    """A farm that hands out fewer workers than it has."""

    farm: RayFarm
    workers: int

    def lease(self, workers: int | None = None):
        return self.farm.lease(workers or self.workers)

    def close(self) -> None:
        pass


def job_on(farm: RayFarm, workers: int, run: Path, *words: str):
    return prepared(draft(load_config("preview", [*JOB, f"output.dir={run}", *words])), Lent(farm, workers))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "arrangement"),
    # Two and five workers, undisturbed, are below where jobs share the farm.
    [(1, None), (3, None), (4, (1, 4)), (4, (2, 2)), (4, (4, 1))],
)
def test_any_number_of_ray_workers_makes_the_same_floats(
    workers: int, arrangement: tuple[int, int] | None, farm: RayFarm, expected: np.ndarray, tmp_path: Path
) -> None:
    with job_on(farm, workers, tmp_path / "run") as job:
        started = []

        def watch(event: Event) -> None:
            if isinstance(event, OctaveStarted):
                started.append(event.workers)

        canvas = dreamed(job, job.conductor(arrangement), watch)
        blocks = deal_blocks(job.plan.final.grid, workers, arrangement)
    np.testing.assert_array_equal(canvas, expected)
    assert started[-1] == len(blocks) == workers
    if arrangement:
        assert (len({b.tile_rows for b in blocks}), len({b.tile_columns for b in blocks})) == arrangement


@pytest.mark.slow
def test_a_step_sends_what_the_geometry_says(farm: RayFarm, tmp_path: Path) -> None:
    """Bytes that workers gave out during an octave's steps, against the rectangles."""
    with job_on(farm, 4, tmp_path / "run", "checkpoint.every=1000") as job:
        counts = []

        def sent() -> int:
            executor = job.executor
            return sum(executor.fetch([executor.call(worker, "bytes_sent") for worker in range(4)]))

        for event in job.conductor().run(0):
            is_last = isinstance(event, StepDone) and event.step + 1 == event.octave.steps
            if (isinstance(event, OctaveStarted) or is_last) and event.octave == job.plan.final:
                counts.append(sent())
    predicted = bytes_exchanged(deal_blocks(job.plan.final.grid, 4))
    assert predicted > 0
    before, after = counts
    assert after - before == job.plan.final.steps * predicted


def kill_worker(job: Job, number: int) -> None:
    os.kill(job.executor.members[number].facts.pid, signal.SIGKILL)


@pytest.mark.slow
def test_killed_workers_are_replaced_and_nothing_shows(
    farm: RayFarm, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers die in the middle of an octave, while octaves change, and while a checkpoint is written."""
    with job_on(farm, 2, tmp_path / "run") as job:
        recovered: list[str] = []
        killed: dict[str, int] = {}

        def kill_once(moment: str, number: int) -> None:
            if moment not in killed:
                killed[moment] = job.executor.members[number].facts.pid
                kill_worker(job, number)

        def watch(event: Event) -> None:
            if isinstance(event, Recovered):
                recovered.append(event.reason)
            if isinstance(event, OctaveDone) and event.octave.index == 0:
                kill_once("octave change", 0)
            if isinstance(event, StepDone) and (event.octave.index, event.step) == (1, 0):
                kill_once("mid-octave", 1)

        begin = job.resolved.directory.checkpoints.begin

        def begin_and_kill(shape, octave: int, steps: int, history, parts=()):
            checkpoint = begin(shape, octave, steps, history, parts)
            if (octave, steps) == (1, 2):
                kill_once("checkpoint write", 1)
            return checkpoint

        monkeypatch.setattr(job.resolved.directory.checkpoints, "begin", begin_and_kill)
        canvas = dreamed(job, job.conductor(), watch)
        assert list(killed) == ["octave change", "mid-octave", "checkpoint write"]
        assert not any(psutil.pid_exists(pid) for pid in killed.values())
        assert job.executor.workers == 2
        assert len(recovered) == 3
        assert all("died" in reason for reason in recovered)
    np.testing.assert_array_equal(canvas, expected)
    assert farm.size == 5


@pytest.mark.slow
def test_a_worker_killed_once_the_canvas_is_saved_costs_nothing(
    farm: RayFarm, expected: np.ndarray, tmp_path: Path
) -> None:
    """Pictures are made of what is on disk; whoever leases the dead worker next gets another."""
    with job_on(farm, 2, tmp_path / "run") as job:
        conductor = job.conductor()
        for _ in conductor.run(job.resolved.seed):
            pass
        pid = job.executor.members[1].facts.pid
        kill_worker(job, 1)
        conductor.release()
        canvas = job.resolved.directory.canvas()
        np.testing.assert_array_equal(canvas.read(canvas.rect), expected)
    with job_on(farm, 5, tmp_path / "again") as job:
        assert pid not in {member.facts.pid for member in job.executor.members}
        assert job.executor.workers == 5


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced_and_those_who_wait_for_it_are_not(
    farm: RayFarm, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle: it does not die, and its neighbours wait for its margins."""
    monkeypatch.setattr(farm._cluster.config, "silence", 2.0)
    monkeypatch.setattr("render.farm.ray.silence.SUSPICIOUS_FACTOR", 1)
    with job_on(farm, 3, tmp_path / "run") as job:
        pids = [member.facts.pid for member in job.executor.members]
        reasons = []

        def watch(event: Event) -> None:
            if isinstance(event, Recovered):
                reasons.append(event.reason)
            if isinstance(event, StepDone) and (event.octave.index, event.step) == (1, 0) and not reasons:
                os.kill(pids[1], signal.SIGSTOP)

        canvas = dreamed(job, job.conductor(), watch)
        assert {member.facts.pid for member in job.executor.members} >= {pids[0], pids[2]}
        assert job.executor.workers == 3
    np.testing.assert_array_equal(canvas, expected)
    assert reasons == ["1 of 3 workers hang"]
    assert not psutil.pid_exists(pids[1])


@pytest.mark.slow
def test_a_worker_amid_long_work_is_left_alone(farm: RayFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a worker answers nobody, but computes."""
    with farm.lease(2) as executor:
        idle, busy = executor.members
        monkeypatch.setattr(farm._cluster.config, "silence", 3.0)
        computing = busy.handle.__ray_call__.remote(lambda _actor: sum(number * number for number in range(150_000_000)))
        assert executor._health.find_hanging([idle, busy]) == []
        assert not ray.wait([computing], timeout=0)[0]
        os.kill(busy.facts.pid, signal.SIGSTOP)
        assert executor._health.find_hanging([idle, busy]) == [busy]
        os.kill(busy.facts.pid, signal.SIGCONT)
        assert executor._health.find_hanging([idle, busy]) == []


def test_silence_is_suspicious_when_it_is_far_longer_than_any_before() -> None:
    now = [0.0]
    silence = Silence(900, lambda: now[0])
    silence.begin()
    now[0] = 60
    silence.end()
    assert (silence.seconds, silence.bound) == (0, 1200)
    now[0] = 1259
    assert silence.seconds < silence.bound
    now[0] = 1260
    assert silence.seconds >= silence.bound
    # Time between two waits is nobody's silence.
    now[0] = 9000
    silence.begin()
    now[0] = 9001
    silence.end()
    assert silence.bound == 1200


@pytest.mark.slow
def test_jobs_share_a_farm_and_its_compiled_kernels(farm: RayFarm, expected: np.ndarray, tmp_path: Path) -> None:
    """Jobs queue where workers do not suffice, all end alike, and no kernel is compiled twice."""
    results: dict[int, np.ndarray] = {}
    at_once: list[int] = []
    errors: list[BaseException] = []

    # Composed here: Hydra keeps one state for all threads.
    drafts = [draft(load_config("preview", [*JOB, f"output.dir={tmp_path / f'run{number}'}"])) for number in range(3)]

    def dream(number: int) -> None:
        try:
            with prepared(drafts[number], Lent(farm, 2)) as job:
                at_once.append(5 - len(farm._idle))
                results[number] = dreamed(job, job.conductor())
        except Exception as error:
            errors.append(error)

    def kernels_made() -> list[int]:
        with farm.lease(5) as executor:
            facts = executor.fetch([executor.call(worker, "ping") for worker in range(5)])
        return [worker_facts.kernels_made for worker_facts in facts]

    with job_on(farm, 5, tmp_path / "first") as job:
        np.testing.assert_array_equal(dreamed(job, job.conductor()), expected)
    assert kernels_made() == [1] * 5
    threads = [threading.Thread(target=dream, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert not errors
    for canvas in results.values():
        np.testing.assert_array_equal(canvas, expected)
    assert len(results) == 3
    assert set(at_once) <= {2, 4}
    assert kernels_made() == [1] * 5


@pytest.mark.slow
def test_workers_lost_while_a_job_is_made_ready_are_replaced(
    farm: RayFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first died while nobody used it; the second dies before it reports a window's memory."""
    kill = [farm._idle[0].facts.pid]
    os.kill(kill[0], signal.SIGKILL)

    def machine(*arguments):
        if len(kill) == 1:
            kill.append(arguments[-1][0].pid)
            os.kill(kill[1], signal.SIGKILL)
        return read_machine(*arguments)

    read_machine = resources.farm_machine
    monkeypatch.setattr(resources, "farm_machine", machine)
    with job_on(farm, 2, tmp_path / "run") as job:
        facts = job.executor.fetch([job.executor.call(worker, "ping") for worker in range(2)])
        assert [worker_facts.pid for worker_facts in job.workers] == [worker_facts.pid for worker_facts in facts]
        assert not {worker_facts.pid for worker_facts in facts} & set(kill)
    assert farm.size == 5


def test_calls_that_fail_though_every_worker_answers_are_not_repeated_for_ever(farm: RayFarm) -> None:
    retries = farm._cluster.config.retries
    with farm.lease(1) as executor:
        for _ in range(retries):
            executor.mend()
        executor.settled()
        for _ in range(retries):
            executor.mend()
        with pytest.raises(UserError, match=f"failed {retries + 1} times .* though every worker answers"):
            executor.mend()


def test_a_job_may_not_ask_for_more_than_the_farm_has(farm: RayFarm) -> None:
    with pytest.raises(UserError, match="asks for 6 workers and the farm has 5"), farm.lease(6):
        pass


def test_weights_that_changed_on_the_way_are_refused(farm: RayFarm, inception, tmp_path: Path) -> None:
    with farm.lease(1) as executor, pytest.raises(UserError, match="not those of the job"):
        job = draft(load_config("preview", [*JOB, f"output.dir={tmp_path / 'run'}"])).resolved
        executor.open(KernelRecipe(replace(inception, sha256="0" * 64), job.schedule.objectives), job.source)


def run_command(*words: str, cwd: Path, timeout: float = 300) -> Finished:
    process = start(*words, cwd=cwd)
    out, err = process.communicate(timeout=timeout)
    return Finished(process.returncode, out, err)


def start(*words: str, cwd: Path) -> Process:
    """Start the command as a terminal does: in a process group of its own."""
    return start_command(*words, cwd=cwd, new_session=True)


def wait_for(path: Path, text: str, process: Process, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not (path.exists() and text in path.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"no {text!r} in {path}"
        time.sleep(0.05)


def descendants(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
def test_stopped_and_killed_the_same_command_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Ctrl-C in the terminal reaches the whole process group, Ray's processes too; SIGKILL the driver alone."""
    # So many steps that it is still at work when it is looked at.
    steps = "octaves.steps=20"
    words = (*JOB, steps, "farm.workers=2", "output.dir=run")
    process = start(*words, "checkpoint.every=1000", cwd=tmp_path)
    wait_for(tmp_path / "run" / "render.log", "octave 1 step 1:", process)
    children = descendants(process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("render: interrupted; the same command goes on from octave ")
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive

    process = start(*words, cwd=tmp_path)
    wait_for(tmp_path / "run" / "render.log", "octave 2 step 2:", process)
    assert (
        last.rpartition("the same command goes on")[2].replace("from", "going on from").strip()
        in (tmp_path / "run" / "render.log").read_text()
    )
    children = descendants(process)
    assert len([child for child in children if "WorkerActor" in " ".join(child.cmdline())]) == 2
    process.kill()
    process.communicate(timeout=30)

    again = run_command(*words, cwd=tmp_path)
    assert again.code == 0, again.err
    np.testing.assert_array_equal(stored(tmp_path / "run"), dreamed_here(tmp_path / "here", steps))
    log = (tmp_path / "run" / "render.log").read_text()
    assert "going on from octave 2" in log
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(record["resumed"]) == 2
    assert [len(octave["mean_gradient"]) for octave in record["octaves"]] == [20, 20]
    # Ray's agents notice by polling that their raylet is gone, and take a minute: the command did not wait for them.
    _, alive = psutil.wait_procs(children, timeout=180)
    assert not alive


def test_an_address_where_nothing_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    start = time.monotonic()
    run_command(*JOB, f"farm.address=127.0.0.1:{port}", "output.dir=run", cwd=tmp_path).refused(
        f"127.0.0.1:{port}", "nothing listens"
    )
    assert time.monotonic() - start < 30
    run_command(*JOB, "farm.address=somewhere", cwd=tmp_path).refused("farm.address=somewhere", "HOST:PORT")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"])
def test_an_address_where_something_else_listens(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would knock for minutes at what says nothing, or speaks another language."""
    monkeypatch.setattr("render.farm.ray.startup._CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:

        def reply() -> None:
            with other.accept()[0] as connection, suppress(ConnectionError):
                connection.sendall(answer)
                while connection.recv(100):
                    pass

        thread = threading.Thread(target=reply)
        thread.start()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UserError, match=f"{address}: what listens there is not the head of a Ray cluster"):
            RayFarm(FarmConfig(address=address), threads=1)
        thread.join(10)


@pytest.mark.slow
def test_ctrl_c_while_ray_starts_leaves_nothing(tmp_path: Path) -> None:
    process = start(*JOB, "farm.executor=ray", "output.dir=run", cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not any("gcs_server" in child.name() for child in descendants(process)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = descendants(process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "render: interrupted\n")
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert not list(Path(tempfile.gettempdir()).glob(f"dream-{process.pid}-*"))


@pytest.mark.slow
def test_more_than_this_machine_has_is_refused_at_once(tmp_path: Path) -> None:
    run_command(*JOB, "farm.worker.num_gpus=1", "farm.workers=3", cwd=tmp_path).refused(
        "3 workers of 1 GPU", "this machine has", "0 GPU", "farm.worker"
    )


@pytest.mark.slow
def test_weights_that_a_worker_cannot_hold_and_scratch_disk_too_small(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        words = ("image=noise", "output.width=9000", "octaves.count=1", "octaves.steps=1", "objective.terms=[mixed0]")
        run_command(
            *words,
            "farm.executor=inline",
            "farm.worker.memory_gb=2.2",
            f"farm.scratch={small}",
            "output.dir=run",
            cwd=tmp_path,
        ).refused("scratch", "farm.scratch")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def rays_process(process: Process, name: str) -> psutil.Process:
    return next(child for child in descendants(process) if child.name() == name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_ray_itself_killed_is_one_line_and_the_run_goes_on(name: str, tmp_path: Path) -> None:
    """Ray would end the driver in its own words, after a minute, with a record that says it is running."""
    words = (*JOB, "octaves.steps=20", "farm.workers=2", "output.dir=run")
    process = start(*words, cwd=tmp_path)
    wait_for(tmp_path / "run" / "render.log", "saved octave 1, step 3 ", process)
    children = descendants(process)
    rays_process(process, name).kill()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    (line,) = [text for text in errors.splitlines() if text.startswith("render: ")]
    assert "on this machine was ended by SIGKILL (the same command goes on from octave 1, step " in line
    assert "core_worker" not in errors
    assert "Traceback" not in errors
    log = (tmp_path / "run" / "render.log").read_text()
    assert "ERROR NodeLost" in log
    assert "going on from octave 1, step " in log
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], len(record["resumed"])) == ("finished", 1)
    np.testing.assert_array_equal(stored(tmp_path / "run"), dreamed_here(tmp_path / "here", "octaves.steps=20"))
    assert not psutil.wait_procs(children, timeout=10)[1], "nothing of either Ray is left running"


@pytest.mark.slow
def test_ray_killed_twice_is_a_refusal_and_the_record_says_so(tmp_path: Path) -> None:
    process = start(*JOB, "octaves.steps=400", "farm.executor=ray", "output.dir=run", cwd=tmp_path)
    log = tmp_path / "run" / "render.log"
    wait_for(log, "saved octave 1, step 2 ", process)
    rays_process(process, "raylet").kill()
    wait_for(log, "going on from octave 1", process)
    wait_for(tmp_path / "run" / "progress.json", '"octave": 1', process)
    rays_process(process, "raylet").kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert errors.splitlines()[-1].startswith("render: Ray's raylet on this machine was ended by SIGKILL (the same command")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert "raylet" in record["error"]


def test_a_node_that_does_not_come_up_is_tried_once_more_and_then_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: dict[Path, bool] = {}
    messages: list[str] = []

    def init(_config: FarmConfig, _memory: int, session: Session, *, all_processes: bool) -> None:
        attempts[session.home] = all_processes
        raise Exception("The current node timed out during startup.\nIt may be busy.")

    monkeypatch.setattr(ray_node, "_init", init)
    with pytest.MonkeyPatch.context() as patch:
        # The Ray that other tests share is not to be stopped.
        patch.setattr(ray, "shutdown", lambda: None)
        patch.setattr(ray_node, "_end_children", lambda: None)
        message = refusal(lambda: RayFarm(FarmConfig(), threads=1, say=messages.append))
    assert message.startswith("Ray cannot be started on this machine (The current node timed out during startup)")
    assert messages == ["Ray has not started (The current node timed out during startup): trying once more"]
    assert list(attempts.values()) == [False, True]
    assert not any(home.exists() for home in attempts)


def test_a_node_that_is_stopped_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_node, "_MAX_STOPPED_S", 0.2)
    monkeypatch.setattr(ray_node, "_CHECK_PERIOD_S", 0.0)
    sleeping = subprocess.Popen(["sleep", "60"])
    try:
        node = ray_node.RayNode({"raylet": sleeping}, open_session(), ExitStack())
        node.check()
        sleeping.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 20
        with pytest.raises(NodeLost, match="raylet on this machine has been stopped"):
            while time.monotonic() < deadline:
                node.check()
                time.sleep(0.05)
        assert node.is_lost
    finally:
        sleeping.kill()
        sleeping.wait()
        node._session.close()


def test_workers_run_at_the_priority_of_the_command(farm: RayFarm) -> None:
    """At Ray's own, 15 lower, a sweep beside other work had done nothing in five minutes."""
    command_priority = psutil.Process().nice()
    assert {psutil.Process(member.facts.pid).nice() for member in farm._idle if member.facts} == {command_priority}


def test_rays_directories_are_this_users_alone(farm: RayFarm) -> None:
    assert farm._cluster._node is not None
    session = farm._cluster._node._session
    # Nobody else gets through these to what is below.
    for directory in {session.home, session.root.parent}:
        assert directory.stat().st_mode & 0o777 == 0o700, directory


@pytest.mark.slow
def test_a_worker_that_is_stopped_is_found_after_the_silence_that_is_asked_for(
    farm: RayFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest silence before, such as that of a compilation, does not matter."""
    monkeypatch.setattr(farm._cluster.config, "silence", 3.0)
    with farm.lease(1) as executor:
        executor._health._silence._longest = 600.0
        (member,) = executor.members
        assert member.facts is not None
        os.kill(member.facts.pid, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(WorkersLost, match="1 of 1 workers hang"):
            executor.fetch([executor.call(0, "ping")])
        assert time.monotonic() - begun < 60
        os.kill(member.facts.pid, signal.SIGCONT)
        assert executor.fetch([executor.call(0, "ping")])[0].pid == member.facts.pid
