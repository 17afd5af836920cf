"""Renders a canvas far larger than the memory allowed, and prints the peak of anonymous memory over all processes.

    python -m tests.reports.memory [megapixels=305] [limit_gb=4] [key=value ...]

Two octaves, one step each, of a cheap layer, by a Ray worker. The whole render runs in a memory control group of `limit_gb`
where one can be made (version 1 or 2, as root). RssAnon is what cannot be dropped and read again: mapped scratch files and
Ray's object store are not in it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.conftest import ROOT

_JOB = (
    "image=sample:hubble",
    "octaves.count=2",
    "octaves.steps=1",
    "objective.terms=[conv2d_4a_3x3]",
    "farm.worker.memory_gb=1.6",
    "quiet=true",
)
_ASPECT = 1000 / 872


def anonymous(process: psutil.Process) -> dict[str, int]:
    """RssAnon of a process and its descendants, bytes, by what they are."""
    found: dict[str, int] = {}
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return found
    for one in family:
        try:
            status = Path(f"/proc/{one.pid}/status").read_text()
            command = " ".join(one.cmdline())
        except (OSError, psutil.NoSuchProcess):
            continue
        if "RssAnon" in status:
            kilobytes = int(status.split("RssAnon:")[1].split()[0])
            name = "worker" if "ray::WorkerActor" in command else "driver" if "-m render" in command else "ray"
            found[name] = found.get(name, 0) + 1024 * kilobytes
    return found


def control_group(limit: int) -> Path | None:
    """A new memory control group with that limit, bytes; None where none can be made."""
    for root, name in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")):
        group = root / f"dream-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(limit))
            return group
        except OSError:
            group.rmdir()
    return None


def main() -> int:
    """Renders, watches and prints; returns the render's exit code."""
    settings = {"megapixels": "305", "limit_gb": "4"}
    own = [word for word in sys.argv[1:] if word.split("=")[0] in settings]
    settings |= dict(word.split("=") for word in own)
    more = [word for word in sys.argv[1:] if word not in own]
    width = math.ceil(math.sqrt(float(settings["megapixels"]) * 1e6 * _ASPECT))
    group = control_group(int(float(settings["limit_gb"]) * 1e9))
    with tempfile.TemporaryDirectory(dir=ROOT.parent, prefix="memory-") as directory:
        run = Path(directory) / "run"
        words = [sys.executable, "-m", "render", *_JOB, f"output.width={width}", f"output.dir={run}", *more]
        print(" ".join(words[1:]), flush=True)

        # The shell puts itself into the group and becomes the render.
        enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)] if group is not None else []
        begun = time.monotonic()
        process = subprocess.Popen([*enter, *words], env={**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""})
        watched = psutil.Process(process.pid)
        peak: dict[str, int] = {}
        while process.poll() is None:
            now = anonymous(watched)
            if sum(now.values()) > sum(peak.values()):
                peak = now
            time.sleep(0.1)
        seconds = time.monotonic() - begun
        record = json.loads((run / "run.json").read_text())
        octaves = [f"{octave['width']} x {octave['height']}" for octave in record["octaves"]]
        height, width = record["octaves"][-1]["height"], record["octaves"][-1]["width"]
        print(f"octaves           {', '.join(octaves)} px; the last has {height * width / 1e6:.0f} megapixels, "
              f"{12 * height * width / 1e9:.1f} GB of float32")  # fmt: skip
        print(f"exit code         {process.returncode}, {record['status']} after {seconds:.0f} s")
        parts = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in sorted(peak.items()))
        print(f"peak RssAnon      {sum(peak.values()) / 1e9:.2f} GB in all ({parts})")
        if group is None:
            print("control group     none could be made here")
        else:
            print(f"control group     limit {float(settings['limit_gb']):g} GB, kills by the kernel: {_kills(group)}")
            picture = run / record["picture"]
            print(
                f"picture           {picture.stat().st_size / 1e6:.0f} MB" if picture.exists() else "picture           none"
            )
    if group is not None:
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.2)
    return process.returncode


def _kills(group: Path) -> str:
    for name in ("memory.events", "memory.oom_control"):
        if (group / name).exists():
            text = (group / name).read_text().split()
            return text[text.index("oom_kill") + 1]
    return "unknown"


if __name__ == "__main__":
    sys.exit(main())
