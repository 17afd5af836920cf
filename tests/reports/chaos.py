"""Render once undisturbed, then again and again with seeded random faults; compare the canvases.

    python -m tests.reports.chaos [faults=20] [seed=0] [stop=60] [kinds=worker,raylet,driver,node,stop]

Starts a Ray cluster of three nodes on this machine. Faults come at seeded moments of a render:

- worker: SIGKILL of a worker's process
- raylet: SIGKILL of a node's raylet; another node joins
- driver: SIGKILL of the command, which is then given again
- node: SIGKILL of a whole node; another one joins
- stop: SIGSTOP of a worker's process, and SIGCONT `stop` seconds later

When a render is done, the next one begins in another directory, until there were so many faults. Returns 1 if the bytes of
a canvas or a picture differ, or if a command ends by itself with another exit code than 0 or with a traceback.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from ray.cluster_utils import Cluster

from render.farm.ray.quick_start import quick_start
from tests.conftest import INLINE, ROOT
from tests.support.farm_job import stored

KINDS = ("worker", "raylet", "driver", "node", "stop")
_JOB = (
    "image=sample:chelsea",
    "output.width=144",
    "output.height=120",
    "octaves.count=2",
    "octaves.steps=40",
    "objective.terms=[mixed0]",
    "tiles.size=48",
    "checkpoint.every=1",
    "farm.worker.threads=1",
    "quiet=true",
)
_NODES = 3
#: Seconds between faults, at least and at most; the next one waits besides until a render's steps go on.
_PAUSE_S = (1.0, 4.0)
_MAX_RENDER_S = 1800.0
_START_TRIES = 5


@dataclass
class Chaos:
    """A cluster whose parts are hit while a command renders on it.

    Attributes:
        place: Directory for the runs.
        dice: Source of moments and choices.
        stop_s: How long a stopped process is stopped, s.
        counts: Faults so far, by their kind.
        wrong: What went wrong.
        runs: Number of renders begun.
        recoveries: How often a render has gone on from a checkpoint.
    """

    place: Path
    dice: random.Random
    stop_s: float
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    runs: int = 0
    recoveries: int = 0

    def __post_init__(self) -> None:
        # Ray's default is 15, with which workers hardly run beside other work.
        settings = {"num_cpus": 0, "include_dashboard": False, "_system_config": {"worker_niceness": 0}}
        self._cluster: Cluster = _started(lambda: Cluster(initialize_head=True, head_node_args=settings))
        self._nodes: list[Any] = [self._join() for _ in range(_NODES)]
        self._timers: list[threading.Timer] = []
        self._driver: subprocess.Popen[str] | None = None
        self._begun = time.monotonic()

    @property
    def run(self) -> Path:
        """Directory of the current render."""
        return self.place / f"run-{self.runs}"

    def begin(self) -> None:
        """Begin the next render."""
        self.runs += 1
        self._driver = self._start()

    def hit(self, kind: str) -> None:
        """Wait until the render steps, and for a moment; then inject a fault. A render that ends before is finished."""
        self._await_steps()
        with suppress(subprocess.TimeoutExpired):
            self.driver.wait(self.dice.uniform(*_PAUSE_S))
        if self.driver.poll() is not None:
            self.finish()
            self.begin()
            self.hit(kind)
            return
        faults: dict[str, Callable[[], str]] = {
            "worker": self._kill_worker, "raylet": self._kill_raylet, "driver": self._kill_driver, "node": self._kill_node,
            "stop": self._stop_worker,
        }  # fmt: skip
        print(f"{time.monotonic() - self._begun:6.1f} s  {self.run.name}: {faults[kind]()}", flush=True)
        self.counts[kind] += 1

    def finish(self) -> None:
        """Wait for the end of the current render, and compare it with the undisturbed one."""
        _, errors = self.driver.communicate(timeout=_MAX_RENDER_S)
        if self.driver.returncode or "Traceback" in errors:
            self.wrong.append(f"{self.run.name}: exit code {self.driver.returncode}\n{errors}")
            return
        log = (self.run / "render.log").read_text()
        self.recoveries += log.count("going on from octave")
        if not _is_same(self.place / "undisturbed", self.run):
            self.wrong.append(f"{self.run.name}: other bytes\n{log}")

    def close(self) -> None:
        """End everything."""
        for timer in self._timers:
            timer.cancel()
        if self._driver is not None:
            self._driver.kill()
            self._driver.communicate()
        self._cluster.shutdown()

    @property
    def driver(self) -> subprocess.Popen[str]:
        """The command that renders now."""
        assert self._driver is not None, "no render has begun"
        return self._driver

    def _start(self) -> subprocess.Popen[str]:
        return _command(
            f"farm.address={self._cluster.address}", f"output.dir={self.run}", "farm.retries=9", "farm.silence=20"
        )

    def _await_steps(self) -> None:
        """Wait until the render saves something that it had not saved before, or ends."""
        manifest = self.run / "canvas" / "manifest.json"

        def saved_at() -> int:
            try:
                return manifest.stat().st_mtime_ns
            except FileNotFoundError:
                return 0

        before, deadline = saved_at(), time.monotonic() + _MAX_RENDER_S
        while saved_at() == before and self.driver.poll() is None:
            assert time.monotonic() < deadline, (self.run / "render.log").read_text()
            time.sleep(0.05)

    def _join(self) -> Any:
        return _started(lambda: self._cluster.add_node(num_cpus=1))

    def _worker(self) -> psutil.Process | None:
        pids = sorted(worker.pid for worker in _workers())
        return psutil.Process(self.dice.choice(pids)) if pids else None

    def _kill_worker(self) -> str:
        worker = self._worker()
        if worker is None:
            return "no worker to kill"
        worker.kill()
        return f"SIGKILL of worker {worker.pid}"

    def _stop_worker(self) -> str:
        worker = self._worker()
        if worker is None:
            return "no worker to stop"
        worker.suspend()
        timer = threading.Timer(self.stop_s, _resume, (worker,))
        timer.start()
        self._timers.append(timer)
        return f"SIGSTOP of worker {worker.pid} for {self.stop_s:.0f} s"

    def _kill_raylet(self) -> str:
        node = self._nodes.pop(self.dice.randrange(len(self._nodes)))
        node.kill_raylet()
        # What else belongs to the node.
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.append(self._join())
        return "SIGKILL of a raylet (another node joins)"

    def _kill_node(self) -> str:
        node = self._nodes.pop(self.dice.randrange(len(self._nodes)))
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.append(self._join())
        return "SIGKILL of a node (another joins)"

    def _kill_driver(self) -> str:
        self.driver.send_signal(signal.SIGKILL)
        self.driver.communicate()
        self._driver = self._start()
        return "SIGKILL of the driver (the command is given again)"


def _started(start: Callable[[], Any]) -> Any:
    """Return what `start` does: on a busy machine Ray gives its nodes up after 30 s, so try it again."""
    for _ in range(_START_TRIES - 1):
        with suppress(Exception), quick_start(all_processes=True):
            return start()
    return start()


def _command(*words: str) -> subprocess.Popen[str]:
    """Start the render as a user would."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "render", *_JOB, *words], env=environment, stderr=subprocess.PIPE, text=True
    )


def _workers() -> list[psutil.Process]:
    """Return the processes of the workers on all nodes of this process' clusters."""
    workers = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        if "ray::WorkerActor" in " ".join(process.info["cmdline"] or []):
            with suppress(psutil.Error):
                # Other renders on this machine are nobody's business here.
                if any(parent.pid == os.getpid() for parent in process.parents()):
                    workers.append(process)
    return workers


def _resume(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        process.resume()


def _is_same(undisturbed: Path, disturbed: Path) -> bool:
    """Return whether two runs have the same canvas and the same picture."""
    pictures = [(run / "preview.png").read_bytes() for run in (undisturbed, disturbed)]
    return np.array_equal(stored(undisturbed), stored(disturbed)) and pictures[0] == pictures[1]


def disturbed(kinds: Sequence[str], seed: int, stop_s: float) -> Chaos:
    """Render undisturbed, then with one fault of each kind in turn; return what came of it."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        alone = _command(INLINE, f"output.dir={place / 'undisturbed'}")
        _, errors = alone.communicate(timeout=_MAX_RENDER_S)
        assert alone.returncode == 0, errors
        chaos = Chaos(place, random.Random(seed), stop_s)
        try:
            chaos.begin()
            for kind in kinds:
                chaos.hit(kind)
            chaos.finish()
        finally:
            chaos.close()
        return chaos


def main() -> int:
    """Inject faults and compare; return 1 if anything is wrong."""
    settings = dict(word.split("=") for word in sys.argv[1:])
    seed, begun = int(settings.get("seed", 0)), time.monotonic()
    kinds = settings.get("kinds", ",".join(KINDS)).split(",")
    # Every kind as often as the others, in a seeded order.
    order = [kinds[number % len(kinds)] for number in range(int(settings.get("faults", 20)))]
    random.Random(seed).shuffle(order)
    chaos = disturbed(order, seed, float(settings.get("stop", 60)))
    counts = ", ".join(f"{count} x {kind}" for kind, count in sorted(chaos.counts.items()))
    print(f"seed {seed}: {chaos.counts.total()} faults in {time.monotonic() - begun:.0f} s: {counts}")
    print(f"{chaos.runs} renders, {chaos.recoveries} times from a checkpoint; {len(chaos.wrong)} things wrong")
    for line in chaos.wrong:
        print(f"- {line}")
    return 1 if chaos.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
