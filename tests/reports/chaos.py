"""Render once undisturbed, then with workers, nodes and drivers killed at random; compare the canvases.

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
#: Kinds of kills, as often as they are drawn.
_KINDS = ("worker", "worker", "driver", "node")


def start(*words: str) -> subprocess.Popen:
    """Start the render as a user would."""
    return subprocess.Popen(
        [sys.executable, "-m", "render", *_JOB, *words], env=_ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )


def workers_of(cluster: Cluster) -> list[psutil.Process]:
    """Return the processes of the workers on all nodes."""
    processes = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        if "ray::WorkerActor" in " ".join(process.info["cmdline"] or []):
            processes.append(process)
    return processes


def main() -> int:
    """Kill and compare; return 1 if the bytes differ."""
    settings = dict(word.split("=") for word in sys.argv[1:])
    kills, dice = int(settings.get("kills", 20)), random.Random(int(settings.get("seed", 0)))
    with tempfile.TemporaryDirectory() as directory:
        undisturbed, disturbed = Path(directory) / "undisturbed", Path(directory) / "disturbed"
        begun = time.monotonic()
        assert start("farm.executor=inline", f"output.dir={undisturbed}").wait() == 0
        print(f"undisturbed: one worker in the driver's process, {time.monotonic() - begun:.0f} s", flush=True)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
        words = (f"farm.address={cluster.address}", f"output.dir={disturbed}", "farm.retries=5")
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
        log = (disturbed / "render.log").read_text()
        if "keep" in settings:
            Path(settings["keep"]).write_text(log)
        return 0 if compare(undisturbed, disturbed, log) and sum(counts.values()) >= kills else 1


def compare(undisturbed: Path, disturbed: Path, log: str) -> bool:
    """Print what the log and the comparison say; return whether both runs gave the same bytes."""
    for text in ("failed,", "going on from octave", "worker started", "more workers from octave"):
        print(f"{log.count(text):4} x {text!r} in the log")
    same = np.array_equal(stored(undisturbed), stored(disturbed))
    same_pictures = (undisturbed / "preview.png").read_bytes() == (disturbed / "preview.png").read_bytes()
    names = ("DIFFERENT", "identical")
    print(f"float canvases {names[same]}; pictures {names[same_pictures]}")
    return same and same_pictures


if __name__ == "__main__":
    sys.exit(main())
