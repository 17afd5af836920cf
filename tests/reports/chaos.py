"""Renders once in peace, then once more while workers, nodes and drivers are killed at random, and compares the canvases.

    python -m tests.reports.chaos [kills=20] [seed=0]

Starts a Ray cluster of three nodes on this machine. Kills come at seeded random moments: SIGKILL of a worker's process,
the whole of a node (which comes back later), or SIGKILL of the driver (the same command is given again).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from ray.cluster_utils import Cluster

from tests.conftest import ROOT
from tests.support.farm_job import stored

_JOB = (
    "image=sample:chelsea",
    "output.width=288",
    "output.height=240",
    "octaves.count=3",
    "octaves.steps=30",
    "objective.terms=[mixed1]",
    "tiles.size=64",
    "checkpoint.every=1",
    "quiet=true",
)
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""}
#: Chances of each kind of death.
_KINDS = ("worker", "worker", "driver", "node")


def start(*words: str) -> subprocess.Popen:
    """The render as a user would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "render", *_JOB, *words], env=_ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )


def workers_of(cluster: Cluster) -> list[psutil.Process]:
    """The processes of the workers on all nodes."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        if "ray::WorkerActor" in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


def main() -> int:
    """Kills and compares; returns 1 when the bytes differ."""
    settings = dict(word.split("=") for word in sys.argv[1:])
    kills, dice = int(settings.get("kills", 20)), random.Random(int(settings.get("seed", 0)))
    with tempfile.TemporaryDirectory() as directory:
        peace, war = Path(directory) / "peace", Path(directory) / "war"
        begun = time.monotonic()
        assert start("farm.executor=inline", f"output.dir={peace}").wait() == 0
        print(f"in peace: one worker in the driver's process, {time.monotonic() - begun:.0f} s", flush=True)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
        words = (f"farm.address={cluster.address}", f"output.dir={war}", "farm.retries=5")
        begun = time.monotonic()
        driver = start(*words)
        counts = dict.fromkeys(_KINDS, 0)
        while sum(counts.values()) < kills:
            time.sleep(dice.uniform(2.0, 6.0))
            if driver.poll() is not None:
                break
            kind = dice.choice(_KINDS)
            workers = workers_of(cluster)
            at = time.monotonic() - begun
            if kind == "worker" and workers:
                victim = dice.choice(workers)
                os.kill(victim.pid, signal.SIGKILL)
                print(f"{at:6.1f} s  worker {victim.pid}", flush=True)
            elif kind == "driver":
                driver.kill()
                driver.communicate()
                driver = start(*words)
                print(f"{at:6.1f} s  driver", flush=True)
            elif kind == "node" and len(nodes) > 1:
                cluster.remove_node(nodes.pop(dice.randrange(len(nodes))), allow_graceful=False)
                nodes.append(cluster.add_node(num_cpus=1))
                print(f"{at:6.1f} s  node (another joins)", flush=True)
            else:
                continue
            counts[kind] += 1
        _, errors = driver.communicate()
        seconds = time.monotonic() - begun
        cluster.shutdown()
        killed = ", ".join(f"{count} {kind}{'s' if count != 1 else ''}" for kind, count in counts.items())
        print(f"{sum(counts.values())} kills in {seconds:.0f} s: {killed}; exit code {driver.returncode}")
        if driver.returncode:
            print(errors)
            return 1
        log = (war / "render.log").read_text()
        if "keep" in settings:
            Path(settings["keep"]).write_text(log)
        return 0 if compare(peace, war, log) and sum(counts.values()) >= kills else 1


def compare(peace: Path, war: Path, log: str) -> bool:
    """Whether both runs came to the same; says so, and what the log tells."""
    for text in ("failed,", "going on from octave", "worker started", "more workers from octave"):
        print(f"{log.count(text):4} x {text!r} in the log")
    same = np.array_equal(stored(peace), stored(war))
    alike = (peace / "preview.png").read_bytes() == (war / "preview.png").read_bytes()
    names = ("DIFFERENT", "identical")
    print(f"float canvases {names[same]}; pictures {names[alike]}")
    return same and alike


if __name__ == "__main__":
    sys.exit(main())
