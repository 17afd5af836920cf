"""How long `make render` takes from the command to its first finished step, once all it needs is in the user's cache.

Each run is a process of its own, with the default executor. It ends there: it is interrupted after its first step.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.benchmarks.table import Table

#: From the command to the first finished step, s.
GOAL = 3.0
#: What ends each phase, and how the line of the log begins, or goes on, that says so.
PHASES = {
    "imports, config, draft": "drafted in ",
    "weights loaded": "weights loaded: ",
    "kernel ready": "kernel ready",
    "first step": " step 1: ",
}
#: Row of the seconds until then for which the job waited for programs to be loaded or compiled, and their place in the log.
WAITED = "of it waiting for programs"
_WAITED = re.compile(r"([\d.]+) s " + WAITED)
_ROUNDS, _LONGEST = 3, 300.0
#: `python -m render`, with a log that begins before there is a run directory to keep it in.
LOGGED_COMMAND = """
import logging, sys
handler = logging.FileHandler(sys.argv.pop(1))
handler.setFormatter(logging.Formatter("%(created)f %(message)s"))
logging.getLogger("render").addHandler(handler)
from render.__main__ import main
sys.exit(main())
"""


def measure(quick: bool) -> Table:
    """When each phase of the default render ended, s after the command was given: medians of three runs."""
    words = ["octaves.count=1", "octaves.steps=1", "output.width=160"] if quick else []
    if not quick:
        # Fills the caches, and does not count.
        start(words)
    runs = [start(words) for _ in range(1 if quick else _ROUNDS)]
    rows: list[dict[str, str | float]] = []
    before = 0.0
    for phase in PHASES:
        ended = median(run[phase] for run in runs)
        # What happens beside something longer takes nothing.
        rows.append({"phase": phase, "ended s": ended, "took s": max(0.0, ended - before)})
        before = max(before, ended)
    rows.append({"phase": WAITED, "took s": median(run[WAITED] for run in runs)})
    return Table(
        "starting",
        f"A second `make render` to its first step, {len(runs)} run{'s' if len(runs) > 1 else ''}",
        ("phase", "ended s", "took s"),
        rows,
        {f"the first step is finished within {GOAL:g} s": before < GOAL},
        ("one worker, in this process: the default on the CPUs of one machine",),
    )


def start(words: Sequence[str]) -> dict[str, float]:
    """When each phase of one render ended, s after its process was started."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        environment = {name: value for name, value in os.environ.items() if name != "RENDER_OVERRIDES"}
        root = str(Path(__file__).parents[2])
        begun = time.time()
        process = subprocess.Popen(
            [sys.executable, "-c", LOGGED_COMMAND, str(log), "render", f"output.dir={directory}/run", *words],
            cwd=directory,
            env={**environment, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            found: dict[str, float] = {}
            while len(found) <= len(PHASES) and process.poll() is None and time.time() < begun + _LONGEST:
                time.sleep(0.05)
                found = _ended(log, begun)
            # One that has finished meanwhile has all of them.
            found = _ended(log, begun)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=_LONGEST)
    if len(found) <= len(PHASES):
        raise RuntimeError(f"the render did not get to its first step: {said}")
    return found


def _ended(log: Path, begun: float) -> dict[str, float]:
    """Return the phases that a log reports as ended, and their ends, s after `begun`."""
    found: dict[str, float] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        when, _, message = line.partition(" ")
        for phase, mark in PHASES.items():
            if mark in message:
                found.setdefault(phase, float(when) - begun)
        if waited := _WAITED.search(message):
            found[WAITED] = float(waited[1])
    return found
