"""What renders take of memory, next to what their plans say.

Each job runs as a user would start it, in processes of its own. `kernel_bytes` is XLA's figure for the largest window;
what a worker and all processes together take at most is read from the kernel: VmHWM, the high-water mark of resident
memory, of which the plan's figures are predictions. Ray's own processes are counted as one: their part of the prediction is
a constant. Kernels are compiled, as in a job's first run, which takes the most: one that finds them in the user's cache
takes 0.2 to 0.3 GB less in each worker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from render.farm.worker.process import KERNELS
from render.system.paths import cache_directory
from tests.benchmarks.table import Table
from tests.benchmarks.trained import GOOGLENET, ROOT, missing, trained

#: How far off a prediction may be.
BOUND = 0.15
_GOOGLENET = ("model=googlenet", f"model.weights={GOOGLENET}")
#: By name: what each job is, besides `_COMMON`.
JOBS: dict[str, tuple[str, ...]] = {
    "mixed5, 700 px": ("objective.terms=[mixed5]", "output.width=700"),
    "mixed5, 2000 px": ("objective.terms=[mixed5]", "output.width=2000"),
    "mixed7, 1500 px": ("objective.terms=[mixed7]", "output.width=1500"),
    "mixed3, 3000 px, 2 workers": ("objective.terms=[mixed3]", "output.width=3000", "tiles.size=512", "farm.workers=2"),
    "4c, 1500 px": (*_GOOGLENET, "objective.terms=[inception_4c]", "output.width=1500"),
    "3b, 5000 px": (*_GOOGLENET, "objective.terms=[inception_3b]", "output.width=5000", "tiles.size=512"),
}
_QUICK = {"mixed0, 96 px": ("objective.terms=[mixed0]", "output.width=96", "farm.executor=inline")}
_COMMON = ("image=sample:hubble", "octaves.count=2", "octaves.steps=1", "quiet=true")


def peaks(words: Sequence[str], cache: Path | None = None) -> dict[int, tuple[str, int]]:
    """Runs `python -m render` with these words to its end: for each process its part (`driver`, `worker` or `ray`) and the
    most memory that it had resident, bytes. Raises `subprocess.CalledProcessError` where the render fails.

    `cache` is what XDG_CACHE_HOME names for it.
    """
    found: dict[int, tuple[str, int]] = {}
    command = [sys.executable, "-m", "render", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""}
    if cache is not None:
        environment["XDG_CACHE_HOME"] = str(cache)
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            _look(watched, found)
            time.sleep(0.05)
        errors = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)
    return found


def _look(watched: psutil.Process, found: dict[int, tuple[str, int]]) -> None:
    """Adds what the processes of a render have had at most until now."""
    try:
        family = [watched, *watched.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in family:
        try:
            status = Path(f"/proc/{one.pid}/status").read_text()
            title = " ".join(one.cmdline())
        except (OSError, psutil.NoSuchProcess):
            # It has ended since it was listed.
            continue
        if "VmHWM" in status:
            part = "driver" if one.pid == watched.pid else "worker" if "ray::WorkerActor" in title else "ray"
            # A process is known by what it becomes: Ray's workers start without a name.
            found[one.pid] = (part, 1024 * int(status.split("VmHWM:")[1].split()[0]))


def cache_without_kernels(place: Path) -> Path:
    """A directory for XDG_CACHE_HOME in which all is as in the user's cache, but no kernel has been compiled."""
    users = cache_directory()
    ours = place / users.name
    ours.mkdir(parents=True)
    for entry in users.iterdir() if users.exists() else ():
        if entry.name != KERNELS:
            (ours / entry.name).symlink_to(entry.absolute())
    return place


def measure(quick: bool) -> Table:
    """Peaks of some renders, and by how much their plans miss them."""
    # Fetched once into the user's cache, not by each job into its own.
    trained("inception_v3")
    rows: list[dict[str, str | float]] = []
    notes: tuple[str, ...] = ()
    for name, words in (_QUICK if quick else JOBS).items():
        if _GOOGLENET[1] in words and (lacking := missing("googlenet")):
            notes = (lacking,)
            continue
        with tempfile.TemporaryDirectory() as directory:
            run = Path(directory) / "run"
            job = [*_COMMON, *words, f"output.dir={run}"]
            found = peaks(job, cache_without_kernels(Path(directory) / "cache"))
            plan = json.loads((run / "run.json").read_text())["plan"]
        workers = [size for part, size in found.values() if part == "worker"]
        driver, ray = (sum(size for part, size in found.values() if part == wanted) for wanted in ("driver", "ray"))
        # Without processes of their own the worker is the driver.
        worker, planned = (max(workers), plan["worker_bytes"]) if workers else (driver, plan["memory_bytes"])
        rows.append(
            {
                "job": name,
                "kernel GB": plan["kernel_bytes"] / 1e9,
                "worker planned GB": planned / 1e9,
                "worker GB": worker / 1e9,
                "worker off": planned / worker - 1,
                "all planned GB": plan["memory_bytes"] / 1e9,
                "all GB": (driver + ray + sum(workers)) / 1e9,
                "all off": plan["memory_bytes"] / (driver + ray + sum(workers)) - 1,
                "driver GB": driver / 1e9,
                "ray GB": ray / 1e9,
            }
        )
    off = max(abs(float(row[column])) for row in rows for column in ("worker off", "all off"))
    return Table(
        "memory",
        "peak of resident memory, predicted and measured",
        tuple(rows[0]),
        rows,
        {f"every peak is within {BOUND:.0%} of the plan's prediction: {off:.0%}": off <= BOUND},
        notes,
    )
