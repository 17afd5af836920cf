"""Workers as Ray actors: on this machine, with a Ray of our own, or on a cluster that is running already."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

# Read when Ray is imported: it would announce, and send, statistics.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray says in advance that workers without a GPU will see all of them; ours are told their platform.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import psutil
import ray
from ray.exceptions import ActorDiedError, ObjectStoreFullError, OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from render.config import FarmConfig
from render.errors import RenderError, UserError, WorkersLost
from render.farm.executors import Reference
from render.farm.messages import Facts
from render.farm.silence import Silence, Suspect, hanging

log = logging.getLogger(__name__)

#: How long a worker may take to start on a free machine, s.
_START = 120.0
#: How long to wait for workers that joined or are to replace others while the rest could go on, s.
_JOIN = 60.0
_SAY_EVERY = 30.0
_CONNECT = 5.0
#: A cluster's head speaks HTTP/2, as gRPC does: how a client begins, and the kind of frame that the answer begins with.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_FRAME, _SETTINGS = 9, 4
#: Longest directory in which Ray's sockets still have names that the system takes.
_LONGEST_DIRECTORY = 40
_SESSION = "dream"
_SMALLEST_STORE = 100_000_000


class WorkerActor:
    """A Ray actor around a `WorkerProcess`, which is imported only in the actor's own process: it brings JAX along."""

    def __init__(self) -> None:
        from render.farm.process import WorkerProcess

        self._process = WorkerProcess()

    def call(self, method: str, *arguments: Any) -> Any:
        """See `WorkerProcess.call`."""
        return self._process.call(method, *arguments)

    def start(self) -> tuple[str, Any]:
        """The node that Ray put this actor on, and what `WorkerProcess.ping` says."""
        return ray.get_runtime_context().get_node_id(), self._process.ping()

    def call_parts(self, method: str, *arguments: Any) -> Any:
        """`call` for a method that returns a list, as Ray has it where each part becomes an object of its own."""
        parts = self._process.call(method, *arguments)
        return parts[0] if len(parts) == 1 else tuple(parts)


@dataclass(frozen=True)
class Demand:
    """What a worker takes of a node. `num_cpus` None stands for all CPUs of a node: one worker each."""

    num_cpus: float | None
    num_gpus: float
    resources: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.num_gpus:g} GPU"] if self.num_gpus else []
        parts += ["a whole node's CPUs"] if self.num_cpus is None else [f"{self.num_cpus:g} CPU"]
        return ", ".join(parts + [f"{amount:g} {name}" for name, amount in self.resources.items()])

    @property
    def platform(self) -> str:
        """What JAX is told to run on, so that a device that is taken is an error and not a slow render."""
        if self.num_gpus:
            return "cuda"
        return "tpu" if "TPU" in self.resources else "cpu"

    def fits(self, node: dict[str, Any]) -> int:
        """How many workers a node has room for when nobody else uses it."""
        has = node["Resources"]
        wants = {"GPU": self.num_gpus, **self.resources}
        if self.num_cpus is not None:
            wants["CPU"] = self.num_cpus
        elif has.get("CPU", 0) < 1:
            return 0
        counts = [int(has.get(name, 0) // amount) for name, amount in wants.items() if amount > 0]
        most = min(counts) if counts else 1
        return min(most, 1) if self.num_cpus is None and not self.num_gpus and not self.resources else most


@dataclass(eq=False)
class _Member:
    """A worker's actor; `ready` resolves once it has started, and `failures` counts since the last checkpoint."""

    handle: Any
    node: str | None
    ready: Reference
    facts: Facts | None = None
    failures: int = 0

    def __str__(self) -> str:
        return f"pid {self.facts.pid} on {self.facts.host} ({self.facts.device})" if self.facts else "not started"


#: Never restarted behind our back: a new worker has to be given its block, and the others theirs anew.
_Actor: Any = ray.remote(max_restarts=0, max_task_retries=0)(WorkerActor)


class RayFarm:
    """A pool of workers that jobs lease, one job after the other or several at once."""

    def __init__(
        self,
        config: FarmConfig,
        *,
        threads: int,
        store_bytes: int = _SMALLEST_STORE,
        check: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Starts Ray on this machine, or joins the cluster at `config.address`, and takes in the workers.

        `threads` is how many a kernel runs on where it runs on a CPU; `store_bytes` is how much Ray may hold at once on
        this machine; `check` is called while waiting and may raise; `say` is told what is waited for. Raises `UserError`
        when there is no such cluster, or when it has no room for the workers.
        """
        self._config = config
        self._threads = threads
        self._check = check
        self._say = say
        self._fixed = config.workers
        self._directory: Path | None = None
        self._idle: list[_Member] = []
        self._leased = 0
        self._turns: deque[object] = deque()
        self._changed = threading.Condition()
        if config.address not in (None, "auto"):
            _knock(config.address)
        try:
            if config.address is None:
                self._start(store_bytes)
            else:
                _join(config.address)
            self.demand = self._find_demand()
            self._idle = self._take_in()
        except BaseException:
            self.close()
            raise

    @property
    def embedded(self) -> bool:
        """Whether Ray runs on this machine for this farm alone."""
        return self._config.address is None

    @property
    def size(self) -> int:
        """How many workers there are, leased or not."""
        return len(self._idle) + self._leased

    @contextmanager
    def lease(self, workers: int | None = None) -> Iterator[RayExecutor]:
        """`workers` workers for one job, all by default; jobs that ask while too few are free wait for their turn.

        A job gets fewer where the jobs before it lost some. Compiled kernels stay with the workers for the next job.
        """
        if workers is not None and workers > self.size:
            raise UserError(f"a job asks for {workers} workers and the farm has {self.size}: set a larger farm.workers")
        turn = object()
        with self._changed:
            self._turns.append(turn)
            try:
                while self._turns[0] is not turn or len(self._idle) < min(workers or self.size, self.size):
                    self._changed.wait(0.5)
                    self._check()
                if not self._idle:
                    # All were set aside in the jobs before.
                    self._idle = self.recruit(workers or self.wanted(), [], _START)
                if not self._idle:
                    raise UserError("the farm has lost all its workers and no new one starts: run the job again")
                count = workers or len(self._idle)
                members, self._idle = self._idle[:count], self._idle[count:]
                self._leased += len(members)
            finally:
                self._turns.remove(turn)
                self._changed.notify_all()
        executor = RayExecutor(self, members, self._check)
        try:
            yield executor
        finally:
            with self._changed:
                self._leased -= executor.leased
                self._idle += executor.members
                self._changed.notify_all()

    def close(self) -> None:
        """Lets the workers go, and stops Ray where this farm started it."""
        for member in self._idle:
            ray.kill(member.handle)
        self._idle = []
        ray.shutdown()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def recruit(self, count: int, taken: Sequence[_Member], patience: float) -> list[_Member]:
        """At most `count` new workers that start within `patience` seconds, besides those in `taken`."""
        members = [self._create(node) for node in self._places(count, taken)]
        deadline = time.monotonic() + patience
        while (waiting := [member for member in members if not _is_ready(member)]) and time.monotonic() < deadline:
            ray.wait([member.ready for member in waiting], num_returns=1, timeout=1.0)
            self._check()
        started = []
        for member in members:
            try:
                if _is_ready(member):
                    member.node, member.facts = _get(member.ready)
                    log.info("worker started: %s", member)
                    started.append(member)
                    continue
                reason = "did not start in time"
            except RayError as error:
                reason = _first_line(error)
            log.warning("a worker could not be started: %s", reason)
            ray.kill(member.handle)
        return started

    def room(self) -> int:
        """How many workers the cluster's nodes have room for when nobody else uses them."""
        return sum(self.demand.fits(node) for node in _nodes())

    def wanted(self) -> int:
        """How many workers there should be: as many as the config says, or as there is room for."""
        return self._fixed or self.room()

    def kill(self, member: _Member) -> None:
        """Ends a worker for good."""
        ray.kill(member.handle)

    @property
    def retries(self) -> int:
        """How often a worker may fail between two checkpoints."""
        return self._config.retries

    @property
    def silence(self) -> float:
        """How long nothing may come back from workers before somebody looks, s."""
        return self._config.silence

    def _start(self, store_bytes: int) -> None:
        self._directory = _session_directory()
        worker = self._config.worker
        on_gpu = worker.num_gpus if worker.num_gpus is not None else _has_plugin("cuda")
        cpus = (self._config.workers or os.cpu_count() or 1) * max(1, int(worker.num_cpus or 1))
        memory = max(_SMALLEST_STORE, store_bytes)
        options: dict[str, Any] = {}
        shared = Path("/dev/shm")
        if shared.is_dir() and psutil.disk_usage(str(shared)).free < memory:
            # Containers often have little; a file does as well, more slowly.
            options["_plasma_directory"] = str(self._directory)
        try:
            _init_ray(
                # A Ray of our own even where RAY_ADDRESS names a cluster.
                address="local",
                num_cpus=cpus,
                num_gpus=None if on_gpu else 0,
                resources=None,
                include_dashboard=self._config.dashboard,
                object_store_memory=memory,
                _temp_dir=str(self._directory),
                _system_config=_system_config(dashboard=self._config.dashboard),
                **options,
            )
        except (RayError, RuntimeError, OSError, ValueError, ConnectionError) as error:
            raise UserError(
                f"Ray cannot be started on this machine ({_first_line(error)}): set farm.executor=inline to do without"
            ) from None
        log.info("Ray %s started in %s", ray.__version__, self._directory)

    def _find_demand(self) -> Demand:
        worker = self._config.worker
        nodes = _nodes()
        gpus, resources = worker.num_gpus, dict(worker.resources)
        if gpus is None:
            gpus = 1.0 if _has_plugin("cuda") and any(node["Resources"].get("GPU", 0) >= 1 for node in nodes) else 0.0
        if not gpus and not resources and _has_plugin("tpu") and any("TPU" in node["Resources"] for node in nodes):
            resources = {"TPU": 1.0}
        cpus = worker.num_cpus
        if cpus is None and (self.embedded or gpus or resources or self._config.workers):
            cpus = 1.0
        return Demand(cpus, gpus, resources)

    def _take_in(self) -> list[_Member]:
        """The workers that the config asks for. Raises `UserError` with the reason when they cannot be had."""
        # Without a number, and on CPUs, a machine of our own has one worker, whose kernels use all its cores.
        if self.embedded and self._fixed is None and self.demand.platform == "cpu":
            self._fixed = 1
        wanted = max(1, self.wanted())
        if self.embedded and self.room() < wanted:
            raise self._too_many(wanted)
        members: list[_Member] = []
        try:
            self._await(members, wanted)
            for member in members:
                member.node, member.facts = _get(member.ready)
        except BaseException as error:
            for member in members:
                ray.kill(member.handle)
            if isinstance(error, RayError):
                raise UserError(f"a worker cannot be started: {_first_line(error)}") from None
            raise
        for member in members:
            log.info("worker started: %s", member)
        return members

    def _await(self, members: list[_Member], wanted: int) -> None:
        """Fills `members` with `wanted` workers and returns when all have started, or raises `UserError`."""
        begun = said = time.monotonic()
        while True:
            if len(members) < wanted:
                members += [self._create(node) for node in self._places(wanted - len(members), members)]
            waiting = [member for member in members if not _is_ready(member)]
            if not waiting and len(members) >= wanted:
                return
            ray.wait([member.ready for member in waiting], timeout=1.0) if waiting else time.sleep(1.0)
            self._check()
            waited = time.monotonic() - begun
            if waited > self._config.timeout and self.room() < wanted:
                raise self._too_many(wanted)
            if waited > self._config.timeout + _START and not self._is_busy(len(waiting)):
                raise UserError(
                    f"{len(waiting)} of {wanted} workers did not start within {waited:.0f} s though the cluster has room: "
                    "look into Ray's logs on its nodes"
                )
            if time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                self._say(f"waiting for workers: {wanted - len(waiting)} of {wanted} have started; {_what_there_is()}")

    def _too_many(self, wanted: int) -> UserError:
        where = "this machine" if self.embedded else f"the cluster at {self._config.address}"
        return UserError(
            f"{wanted} worker{'s' if wanted > 1 else ''} of {self.demand} cannot be had: {where} has {_what_there_is()}, "
            f"room for {self.room()}; change farm.workers or farm.worker.{{num_gpus,num_cpus,resources}}"
        )

    def _is_busy(self, missing: int) -> bool:
        """Whether others hold what the missing workers wait for."""
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        wants = {"GPU": self.demand.num_gpus, "CPU": self.demand.num_cpus or 1, **self.demand.resources}
        return any(free.get(name, 0) < amount * missing for name, amount in wants.items() if amount > 0)

    def _places(self, count: int, taken: Sequence[_Member]) -> list[str | None]:
        """Nodes for at most `count` new workers; None leaves the choice to Ray."""
        if self.demand.num_cpus is not None:
            return [None] * count
        used = {member.node for member in taken}
        return [node["NodeID"] for node in _nodes() if self.demand.fits(node) and node["NodeID"] not in used][:count]

    def _create(self, node: str | None) -> _Member:
        cpus = self.demand.num_cpus
        if cpus is None:
            cpus = next(n["Resources"]["CPU"] for n in _nodes() if n["NodeID"] == node)
        share = min(1.0, self.demand.num_gpus or 1.0)
        environment = {
            "JAX_PLATFORMS": self.demand.platform,
            "NPROC": str(self._threads),
            # One worker has the accelerator, or its share, to itself.
            "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 * share:.2f}",
        }
        environment = {name: os.environ.get(name, value) if "XLA" in name else value for name, value in environment.items()}
        strategy = NodeAffinitySchedulingStrategy(node, soft=False) if node else "SPREAD"
        handle = _Actor.options(
            num_cpus=cpus,
            num_gpus=self.demand.num_gpus,
            resources=self.demand.resources or None,
            runtime_env={"env_vars": environment},
            scheduling_strategy=strategy,
        ).remote()
        return _Member(handle, node, handle.start.remote())


class RayExecutor:
    """The workers that one job has leased."""

    def __init__(self, farm: RayFarm, members: list[_Member], check: Callable[[], None]) -> None:
        self._farm = farm
        self.members = members
        #: How many of the farm's workers count as leased: those that were given, whatever became of them.
        self.leased = len(members)
        self._wanted = len(members)
        self._check = check
        self._job: tuple[Reference, ...] = ()
        self._blamed: dict[int, str] = {}
        self._silence = Silence(farm.silence)
        #: Why calls failed the last time, and how often since the last checkpoint they did and yet every worker answered.
        self._failure, self._unexplained = "", 0

    @property
    def workers(self) -> int:
        return len(self.members)

    def open(self, *job: Any) -> list[Facts]:
        """See `WorkerProcess.open`; its arguments are sent to each node once. Workers lost at it are replaced."""
        self._job = tuple(ray.put(argument) for argument in job)
        while True:
            try:
                return self.fetch([self.call(worker, "open", *self._job) for worker in range(self.workers)])
            except WorkersLost:
                self.mend()

    def call(self, worker: int, method: str, *arguments: Any) -> Reference:
        return self.members[worker].handle.call.remote(method, *arguments)

    def place(self, worker: int) -> str:
        return self.members[worker].node or ""

    def call_parts(self, worker: int, method: str, parts: int, *arguments: Any) -> list[Reference]:
        given = self.members[worker].handle.call_parts.options(num_returns=parts).remote(method, *arguments)
        return [given] if parts == 1 else list(given)

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        self._silence.begin()
        while True:
            self._check()
            ready, _ = ray.wait(list(references), num_returns=1, timeout=1.0)
            if ready:
                self._silence.heard()
                # All that are there by now, so that many small results do not take as many turns.
                return ray.wait(list(references), num_returns=len(references), timeout=0)[0]
            self._find_hanging()

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        # All of them before any error is raised: nobody is left at work on what is given up then.
        waiting = list(references)
        self._silence.begin()
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1.0)
            if ready:
                self._silence.heard()
            else:
                self._find_hanging()
        try:
            return ray.get(list(references))
        except RayTaskError as error:
            # Ray wraps what a worker raised; the error itself has the message for the user.
            cause = error.cause
            if isinstance(cause, RayError):
                raise self._lost(_cause_of_death(cause)) from None
            if isinstance(cause, RenderError):
                raise cause from None
            if isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in str(cause):
                reason = f"out of memory ({_first_line(cause)})"
                # Only the text says whose error it is: the attributes are those of the cause.
                pids = {int(pid) for pid in re.findall(r"\(pid=(\d+)", str(error))}
                self._blamed |= {n: reason for n, one in enumerate(self.members) if one.facts and one.facts.pid in pids}
                raise self._lost(reason) from None
            raise
        except ObjectStoreFullError as error:
            raise UserError(f"Ray's object store is full ({_first_line(error)}): free some memory or disk") from None
        except RayError as error:
            raise self._lost(_cause_of_death(error)) from None

    def grow(self) -> int:
        missing = (self._wanted if self._farm.embedded else max(self._wanted, self._farm.wanted())) - len(self.members)
        if missing <= 0 or self._farm.room() <= len(self.members):
            return 0
        joined = self._open_new(self._farm.recruit(missing, self.members, _JOIN))
        self.members += joined
        return len(joined)

    def mend(self) -> None:
        lost = self._find_lost()
        # Somebody else's loss may only pass through here: a node that vanished takes its objects along. Not for ever.
        self._unexplained += not lost
        if self._unexplained > self._farm.retries:
            raise UserError(
                f"calls to the workers failed {self._unexplained} times since the last checkpoint though every worker "
                f"answers (the last: {self._failure}): mend that, and the same command goes on"
            )
        reasons = []
        keep: list[_Member] = []
        replacements = 0
        failures: list[int] = []
        for number, member in enumerate(self.members):
            if number not in lost:
                keep.append(member)
                continue
            count = member.failures + 1
            reasons.append(lost[number])
            log.warning(
                "worker %d (%s) failed, %d time%s since the last checkpoint: %s",
                number + 1, member, count, "s" if count > 1 else "", lost[number],
            )  # fmt: skip
            self._farm.kill(member)
            if count <= self._farm.retries:
                replacements += 1
                failures.append(count)
            else:
                log.warning("worker %d is set aside", number + 1)
                self._wanted -= 1
        self.members = keep
        if replacements:
            new = self._open_new(self._farm.recruit(replacements, keep, _START if not keep else _JOIN))
            for member, count in zip(new, failures, strict=False):
                member.failures = count
            self.members = keep + new
        if not self.members:
            why = f" (the last: {reasons[-1]})" if reasons else ""
            raise UserError(
                f"no worker is left after {self._farm.retries} retries{why}: the last checkpoint is kept, and the same "
                "command goes on from it"
            )

    def settled(self) -> None:
        self._unexplained = 0
        for member in self.members:
            member.failures = 0

    def close(self) -> None:
        """Nothing to do: the workers go back to the farm when the lease ends."""

    def _open_new(self, members: list[_Member]) -> list[_Member]:
        """New workers, made ready for the job; those that fail at it are let go."""
        good = []
        for member, opened in [(member, member.handle.call.remote("open", *self._job)) for member in members]:
            try:
                self.fetch([opened])
                good.append(member)
            except WorkersLost as lost:
                log.warning("a worker (%s) failed at once: %s", member, lost)
                self._farm.kill(member)
        return good

    def _find_hanging(self) -> None:
        """Raises `WorkersLost` when nothing has come back for too long and there are workers who hang."""
        if self._silence.seconds < self._silence.bound:
            return
        silent = self._silence.seconds
        log.warning("nothing has come back for %.0f s: looking for workers that hang", silent)
        found = self._hanging(range(len(self.members)))
        if not found:
            log.warning("every worker answers or is at work: waiting on")
            self._silence.begin()
            return
        self._blamed |= dict.fromkeys(found, f"it hangs: neither an answer nor any work after {silent:.0f} s of silence")
        raise self._lost(f"{len(found)} of {len(self.members)} workers hang")

    def _lost(self, reason: str) -> WorkersLost:
        self._failure = reason
        return WorkersLost(reason)

    def _hanging(self, numbers: Iterable[int]) -> set[int]:
        suspects = {number: self.members[number] for number in numbers}
        return hanging(
            {n: Suspect(one.handle, one.node, one.facts.pid) for n, one in suspects.items() if one.node and one.facts},
            self._farm.silence,
        )

    def _find_lost(self) -> dict[int, str]:
        """Which workers do not answer, and why."""
        lost, self._blamed = dict(self._blamed), {}
        for number in lost:
            # At once: the others' calls may wait for what it will never give.
            self._farm.kill(self.members[number])
        asked = {member.handle.call.remote("ping"): n for n, member in enumerate(self.members) if n not in lost}
        # One that is alive may be amid a large window.
        deadline = time.monotonic() + self._silence.bound
        while asked and time.monotonic() < deadline:
            self._check()
            ready, _ = ray.wait(list(asked), num_returns=1, timeout=1.0)
            for reference in ready:
                number = asked.pop(reference)
                try:
                    ray.get(reference)
                except RayError as error:
                    lost[number] = _cause_of_death(error)
        silent = self._hanging(asked.values()) if asked else set()
        return lost | dict.fromkeys(silent, f"it hangs: neither an answer nor any work in {self._silence.bound:.0f} s")


def _system_config(*, dashboard: bool) -> dict[str, Any]:
    """Settings of our own Ray: nothing that nobody looks at."""
    # Workers are started when they are asked for, each in its own surroundings.
    settings: dict[str, Any] = {"enable_worker_prestart": False, "prestart_worker_first_driver": False}
    if not dashboard:
        # Reports on every call, which only the dashboard shows; a step makes many calls.
        settings |= {
            "task_events_report_interval_ms": 0,
            "enable_core_worker_task_event_to_gcs": False,
            "enable_timeline": False,
            "enable_metrics_collection": False,
            "event_stats": False,
        }
    return settings


def _join(address: str) -> None:
    """Connects to a running cluster: `auto`, or HOST:PORT. Raises `UserError` when there is none."""
    try:
        _init_ray(address=address)
    except (RayError, RuntimeError, ConnectionError, ValueError, OSError) as error:
        raise UserError(
            f"farm.address={address}: cannot join a Ray cluster there ({_first_line(error)}); start one with "
            "`ray start --head`, or leave farm.address out to render on this machine"
        ) from None


def _knock(address: str) -> None:
    """Raises `UserError` unless something like a cluster's head answers: Ray itself would knock for minutes, noisily."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"farm.address={address}: must be auto or HOST:PORT, such as 10.0.0.1:6379")
    otherwise = "start a cluster with `ray start --head`, or leave farm.address out to render on this machine"
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            try:
                connection.sendall(_HELLO)
                answer = connection.recv(_FRAME, socket.MSG_WAITALL)
            except OSError:
                answer = b""
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"farm.address={address}: nothing listens there ({reason}); {otherwise}") from None
    if len(answer) < _FRAME or answer[3] != _SETTINGS:
        raise UserError(f"farm.address={address}: what listens there is not the head of a Ray cluster; {otherwise}")


def _init_ray(**options: Any) -> None:
    """`ray.init`, quiet, that leaves signals to whom they belong: Ray would have SIGTERM end the process at once.

    The first that comes meanwhile is handed on afterwards: half a Ray can neither be used nor stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        _init_quietly(**options)
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        handler = handlers[signal.Signals(number)]
        if noted and callable(handler):
            handler(number, frame)
        noted.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        _init_quietly(**options)
    finally:
        for which, handler in handlers.items():
            signal.signal(which, handler)
        for number in noted[:1]:
            signal.raise_signal(number)


def _init_quietly(**options: Any) -> None:
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)


def _session_directory() -> Path:
    """A new directory for Ray's sockets and logs. Those of farms that were killed are removed on the way."""
    base = tempfile.gettempdir()
    parent = Path(base if len(base) <= _LONGEST_DIRECTORY else "/tmp")
    for old in parent.glob(f"{_SESSION}-*-*"):
        pid = old.name.split("-")[1]
        if old.stat().st_uid == os.getuid() and pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_SESSION}-{os.getpid()}-", dir=parent))


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _get(reference: Reference) -> Any:
    return ray.get(reference)


def _what_there_is() -> str:
    """The cluster's nodes and what they have, for people."""
    nodes = _nodes()
    totals: dict[str, float] = {}
    for node in nodes:
        for name, amount in node["Resources"].items():
            if name in ("CPU", "GPU", "TPU") or not (name.startswith("node:") or name in _INTERNAL):
                totals[name] = totals.get(name, 0) + amount
    totals.setdefault("GPU", 0)
    listed = ", ".join(f"{amount:g} {name}" for name, amount in sorted(totals.items()))
    return f"{len(nodes)} node{'s' if len(nodes) != 1 else ''} with {listed}"


_INTERNAL = ("memory", "object_store_memory")


def _is_ready(member: _Member) -> bool:
    return bool(ray.wait([member.ready], timeout=0)[0])


def _has_plugin(platform: str) -> bool:
    """Whether JAX is installed with support for `cuda` or `tpu`."""
    names = {"cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin"), "tpu": ("libtpu",)}[platform]
    return any(importlib.util.find_spec(name) for name in names)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")


def _cause_of_death(error: BaseException) -> str:
    """Why a worker died, in few words: Ray's own are a page that guesses at everything."""
    text = str(error)
    if "node" in text and ("has died" in text or "was terminated" in text) and "worker process has died" not in text:
        return "its node died"
    if isinstance(error, OutOfMemoryError) or "memory monitor" in text or "low on memory" in text:
        return "it was ended because its node ran out of memory"
    if "creation task" in text:
        return f"it could not start ({text.strip().splitlines()[-1].strip()})"
    if isinstance(error, ActorDiedError):
        return "its process died: it was killed, ran out of memory, or crashed"
    return _first_line(error)


def _keep_rays_words(data: dict[str, Any], *_: Any, **__: Any) -> None:
    """Takes what Ray would print on standard output into the log: it prints deaths, at length, whatever it is told."""
    for line in data.get("lines", []):
        log.info("Ray says: %s", str(line).strip())


if hasattr(ray._private.worker, "print_to_stdstream"):
    ray._private.worker.print_to_stdstream = _keep_rays_words
