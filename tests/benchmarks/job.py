"""Whole jobs, from the command to the saved picture, beside the loops that users of TensorFlow and PyTorch write.

Each run is a process of its own; all take turns, and figures are medians over rounds. Ours is `python -m render render`
with its defaults, once with no compiled kernel in the user's cache (cold) and once with all of them (warm).
The peers' loops are in `tutorial_loop`: same weights, layer, octaves, steps and canvas. All start from noise, as wide as
`side` says and three quarters as high. The split of ours comes from its log, and its parts add up to the wall time.
CPU seconds are those of all threads: on a busy machine they say more.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from render.errors import UserError
from render.farm.worker.process import KERNELS, PROGRAMS
from render.networks.weights import Loaded, load
from render.system.machine import cores
from render.system.paths import APPLICATION, cache_directory
from tests.benchmarks import contender
from tests.benchmarks.contender import CHANNELS_LAST, TENSORFLOW
from tests.benchmarks.job_layers import LAYERS
from tests.benchmarks.others import Others
from tests.benchmarks.starting import LOGGED_COMMAND
from tests.benchmarks.table import Table, interleaved, ratio
from tests.benchmarks.trained import ROOT
from tests.benchmarks.tutorial_loop import LoopSettings

#: Names of our contenders: without and with compiled kernels in the user's cache.
COLD, WARM = "ours, cold", "ours, warm"
#: Layers, widths of the canvas, px, and rounds.
DEFAULT_LAYERS, DEFAULT_SIDES, DEFAULT_ROUNDS = ("mixed4", "inception_4c"), (512, 1024, 2048), 5
#: Octaves, steps at each, and the mean change of a pixel in a step.
OCTAVES, STEPS, STEP_SIZE = 5, 10, 1.5
#: Most of TensorFlow's wall time that ours may take, by contender and side.
GOALS = {(WARM, 512): 1.0, (WARM, 1024): 0.9, (COLD, 1024): 1.3, (WARM, 2048): 0.7}
#: Parts of our wall time, in their order.
PARTS = (
    "imports, config", "draft", "workers, weights", "first plan", "kernels", "octave changes", "steps", "saving", "export",
    "end",
)  # fmt: skip
_LONGEST = 3600.0


@dataclass(frozen=True)
class Run:
    """A finished process.

    Attributes:
        seconds: Wall time.
        cpu_seconds: Processor time, of all threads.
        first_step: Wall time until the first step was done; None of peers.
        parts: Our wall time in `PARTS`; empty of peers.
    """

    seconds: float
    cpu_seconds: float
    first_step: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)


def measure(
    quick: bool,
    layers: Sequence[str] = DEFAULT_LAYERS,
    sides: Sequence[int] = DEFAULT_SIDES,
    rounds: int = DEFAULT_ROUNDS,
) -> Table:
    """Return the wall times of whole jobs.

    Args:
        quick: Take one round of the least size.
        layers: Names of layers in `LAYERS`.
        sides: Widths of the canvas, px.
        rounds: Number of rounds.
    """
    octaves, steps = OCTAVES, STEPS
    if quick:
        layers, sides, rounds, octaves, steps = ("mixed0",), (128,), 1, 2, 1
    peers, notes = _peers()
    rows: list[dict[str, str | float]] = []
    goals: dict[str, bool] = {}
    others = Others()
    for layer in layers:
        try:
            # Loaded here first, so that they are in the cache that is copied.
            loaded = load(LAYERS[layer])
        except UserError as error:
            notes.append(f"{layer} is left out: {error}")
            continue
        for side in sides:
            with tempfile.TemporaryDirectory() as place:
                runs = JobRuns(Path(place), loaded, layer, side, octaves, steps)
                found = runs.interleaved(peers, rounds)
            rows += [_row(name, layer, side, found) for name in found]
            goals |= _goals(layer, side, found)
    notes.append(others.note)
    columns = ("layer", "canvas", "job", "wall s", "cpu s", f"/ {TENSORFLOW}", "first step s", *PARTS)
    title = f"Whole jobs on {cores()} cores: {octaves} octaves of {steps} steps from noise, medians of {rounds}, s"
    return Table("job", title, columns, rows, goals, tuple(notes))


class JobRuns:
    """Runs of one job by all contenders, with a cache directory of their own."""

    def __init__(self, place: Path, loaded: Loaded, layer: str, side: int, octaves: int, steps: int) -> None:
        """Prepare the cache, with the weights in it.

        Args:
            place: Empty directory.
            loaded: The weights.
            layer: Name of the layer.
            side: Width of the canvas, px.
            octaves: Number of octaves.
            steps: Steps at each.
        """
        self._place = place
        self._layer = layer
        self._steps = steps
        self._cache = place / "cache"
        self._sizes: list[tuple[int, int]] = []
        self._words = [
            f"model={LAYERS[layer]}", f"objective.terms=[{layer}]", "image=noise", f"output.width={side}",
            f"output.height={side * 3 // 4}", f"octaves.count={octaves}", f"octaves.steps={steps}", "octaves.scale=1.4",
            f"step_size={STEP_SIZE}",
        ]  # fmt: skip
        shutil.copytree(cache_directory() / "weights", self._cache / APPLICATION / "weights")
        self._parameters = place / "parameters.npz"
        np.savez(self._parameters, **{name: np.asarray(values) for name, values in loaded.parameters.items()})
        self._model = loaded.architecture.name

    def interleaved(self, peers: Sequence[str], rounds: int) -> dict[str, list[Run]]:
        """Run ours and the peers in turns; return the runs of each that count."""
        # Fills the cache, and tells the sizes of the octaves.
        self._ours(is_cold=False)
        contenders: dict[str, Callable[[], Run]] = {
            WARM: partial(self._ours, is_cold=False),
            COLD: partial(self._ours, is_cold=True),
            **{name: partial(self._peer, name) for name in peers},
        }
        found: dict[str, list[Run]] = {name: [] for name in contenders}

        def timed(name: str) -> float:
            """Run a contender, remember the run, and return its wall time."""
            found[name].append(contenders[name]())
            return found[name][-1].seconds

        interleaved({name: partial(timed, name) for name in contenders}, rounds)
        return {name: runs[-rounds:] for name, runs in found.items()}

    def _ours(self, *, is_cold: bool) -> Run:
        """Run our job; a cold one has a cache with weights alone."""
        cache, run_directory, log = (
            self._place / "cold" if is_cold else self._cache,
            self._place / "run",
            self._place / "log",
        )
        if is_cold:
            shutil.rmtree(cache, ignore_errors=True)
            shutil.copytree(
                self._cache, cache, ignore=lambda _directory, names: [name for name in names if name in (KERNELS, PROGRAMS)]
            )
        shutil.rmtree(run_directory, ignore_errors=True)
        log.unlink(missing_ok=True)
        command = [sys.executable, "-c", LOGGED_COMMAND, str(log), "render", f"output.dir={run_directory}", *self._words]
        begun = time.time()
        run = timed_process(command, {"XDG_CACHE_HOME": str(cache)})
        record = json.loads((run_directory / "run.json").read_text())
        self._sizes = [(octave["height"], octave["width"]) for octave in record["octaves"]]
        parts, first_step = split(log.read_text(), begun, run.seconds)
        return Run(run.seconds, run.cpu_seconds, first_step, parts)

    def _peer(self, kind: str) -> Run:
        """Run a peer's loop."""
        settings, picture = self._place / "settings.json", self._place / "peer.png"
        picture.unlink(missing_ok=True)
        LoopSettings(
            self._model, self._layer, str(self._parameters), self._sizes, self._steps, STEP_SIZE, str(picture)
        ).write(settings)
        python = str(contender.TENSORFLOW_PYTHON) if kind == TENSORFLOW else sys.executable
        run = timed_process([python, "-m", "tests.benchmarks.tutorial_loop", kind, str(settings)], {})
        assert picture.exists(), f"{kind} has saved no picture"
        return run


def timed_process(command: Sequence[str], variables: Mapping[str, str]) -> Run:
    """Run a process to its end and time it. Raise `RuntimeError` if it fails.

    Args:
        command: The command.
        variables: Environment variables to set besides those of this process.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {name: value for name, value in os.environ.items() if name != "RENDER_OVERRIDES"}
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "2", **variables}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LONGEST, check=False)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if finished.returncode:
        raise RuntimeError(f"{command[0]} ended with code {finished.returncode}: {finished.stdout}{finished.stderr}")
    return Run(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def split(log: str, begun: float, seconds: float) -> tuple[dict[str, float], float]:
    """Return the parts of a job's wall time, and the time until its first step was done, s.

    Args:
        log: The job's log: lines that begin with the time, s since the epoch.
        begun: When the process was started, s since the epoch.
        seconds: Its wall time.
    """
    times: dict[str, float] = {}
    sums = {"steps": 0.0, "saving": 0.0, "kernels": 0.0, "draft": 0.0, "first wait": 0.0}
    marks = {
        "drafted in ": "drafted", "weights loaded": "weights", "kernel ready": "kernel", " step 1: ": "first step",
        "programs: ": "dreamed", "finished in ": "finished",
    }  # fmt: skip
    amounts = {
        "steps": r"step \d+: .* in ([\d.]+) s$", "saving": r"^saved .* in ([\d.]+) s$", "draft": r"^drafted in ([\d.]+) s$",
        "kernels": r"waited ([\d.]+) s for them$", "first wait": r"^kernel ready, ([\d.]+) s",
    }  # fmt: skip
    for line in log.splitlines():
        when, _, message = line.partition(" ")
        for mark, name in marks.items():
            if mark in message:
                times.setdefault(name, float(when) - begun)
        for name, pattern in amounts.items():
            if amount := re.search(pattern, message):
                sums[name] += float(amount[1])
    first_wait = sums.pop("first wait")
    # Of the kernels, the first is waited for before the first octave, the others within steps.
    later_wait = sums["kernels"] - first_wait
    sums["steps"] -= later_wait
    weights = max(times["drafted"], times["weights"])
    parts = {
        "imports, config": times["drafted"] - sums["draft"],
        "draft": sums["draft"],
        "workers, weights": weights - times["drafted"],
        "first plan": times["kernel"] - weights - first_wait,
        "kernels": sums["kernels"],
        "octave changes": times["dreamed"] - times["kernel"] - sums["steps"] - sums["saving"] - later_wait,
        "steps": sums["steps"],
        "saving": sums["saving"],
        "export": times["finished"] - times["dreamed"],
        "end": seconds - times["finished"],
    }
    return parts, times["first step"]


def _peers() -> tuple[list[str], list[str]]:
    """Return the peers that are installed, and notes about the others."""
    peers, notes = [], []
    if contender.TENSORFLOW_READY.exists():
        peers.append(TENSORFLOW)
    else:
        notes.append("TensorFlow is left out: tensorflow=true installs it, in an environment of its own")
    if importlib.util.find_spec("torch") is None:
        notes.append("PyTorch is left out: it is not installed (the extra bench has it)")
    else:
        peers.append(CHANNELS_LAST)
    return peers, notes


def _row(name: str, layer: str, side: int, found: Mapping[str, Sequence[Run]]) -> dict[str, str | float]:
    """Return the row of one contender: medians over its runs."""
    runs = found[name]
    row: dict[str, str | float] = {
        "layer": layer,
        "canvas": f"{side} x {side * 3 // 4}",
        "job": name,
        "wall s": median(run.seconds for run in runs),
        "cpu s": median(run.cpu_seconds for run in runs),
    }
    if TENSORFLOW in found and name != TENSORFLOW:
        row[f"/ {TENSORFLOW}"] = _ratio(found, name)
    if runs[0].parts:
        row["first step s"] = median(run.first_step or 0.0 for run in runs)
        row |= {part: median(run.parts[part] for run in runs) for part in PARTS}
    return row


def _ratio(found: Mapping[str, Sequence[Run]], name: str) -> float:
    """Return a contender's wall time over TensorFlow's, the median over rounds."""
    return ratio({key: [run.seconds for run in runs] for key, runs in found.items()}, name, TENSORFLOW)


def _goals(layer: str, side: int, found: Mapping[str, Sequence[Run]]) -> dict[str, bool]:
    """Return the claims about one job, with whether they hold."""
    goals = {}
    for (name, goal_side), most in GOALS.items():
        if goal_side == side and TENSORFLOW in found:
            reached = _ratio(found, name)
            goals[f"{layer}, {side} px, {name}: at most {most:g} of {TENSORFLOW}'s time: {reached:.2f}"] = reached <= most
    return goals
