"""How much longer a frame of a zoom film takes than the steps in it, which a still of its size would take as well.

The film is made by its command, in a process of its own: warp, colours, steps, checkpoint and picture of every frame, with
the file written at the end. A frame's time is that between two frames in its log. The steps' time is the median interval
between a frame's first and second step, times their number.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from tests.benchmarks.others import Others
from tests.benchmarks.table import Table
from tests.benchmarks.trained import ROOT

#: Largest share of the steps' time that a frame takes besides.
MAX_OVERHEAD = 0.15
#: (width, height) px, frames, and steps in each frame.
SIZE, FRAMES, STEPS = (3840, 2160), 6, 2
_QUICK_SIZE, _QUICK_FRAMES = (160, 96), 3
_LONGEST_S = 3600.0
_LINE = re.compile(r"(\S+ \S+),(\d{3}) INFO frame (\d+)(?: octave 1 step (\d+)| of \d+)")


def measure(quick: bool) -> Table:
    """Return the time of frames and of their steps; `quick` makes a tiny film."""
    (width, height), frames = (_QUICK_SIZE, _QUICK_FRAMES) if quick else (SIZE, FRAMES)
    others = Others()
    words = [
        "image=sample:hubble", "objective.terms=[mixed4]", f"output.width={width}", f"output.height={height}",
        "octaves.count=1", f"octaves.steps={STEPS}", f"film.octaves.steps={STEPS}", "film.rate=24",
        f"film.seconds={frames / 24}", "quiet=true",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        environment = {name: value for name, value in os.environ.items() if name != "RENDER_OVERRIDES"}
        command = [sys.executable, "-m", "render", "film", "conf=zoom", f"output.dir={place}/film", *words]
        subprocess.run(command, cwd=place, env={**environment, "PYTHONPATH": str(ROOT)}, timeout=_LONGEST_S, check=True)
        frame_s, step_s = frame_times((Path(place) / "film" / "render.log").read_text())
    assert len(frame_s) == frames - 1, f"the log has {len(frame_s)} intervals of {frames} frames"
    frame, steps = median(frame_s), STEPS * median(step_s)
    overhead = frame / steps - 1
    return Table(
        "films",
        f"A frame of a zoom, {width} x {height} px, mixed4, {STEPS} steps each: medians of {len(frame_s)}",
        ("frame s", "its steps s", "besides s", "overhead %"),
        [{"frame s": frame, "its steps s": steps, "besides s": frame - steps, "overhead %": 100 * overhead}],
        {f"a frame takes at most {100 * MAX_OVERHEAD:g} % more than its steps": overhead <= MAX_OVERHEAD},
        (others.note,),
    )


def frame_times(log: str) -> tuple[list[float], list[float]]:
    """Return the intervals between frames, and between the first two steps of each frame but the first, s.

    Args:
        log: Text of the film's log.
    """
    frames: dict[int, float] = {}
    steps: dict[tuple[int, int], float] = {}
    for when, milliseconds, frame, step in _LINE.findall(log):
        seconds = datetime.datetime.fromisoformat(when).timestamp() + int(milliseconds) / 1000
        if step:
            steps[int(frame), int(step)] = seconds
        else:
            frames[int(frame)] = seconds
    numbers = sorted(frames)
    frame_s = [frames[number] - frames[number - 1] for number in numbers[1:]]
    # Within a frame's log lines, frames count from 0; when they are finished, from 1.
    firsts = [number for number, step in steps if step == 1 and number > 0]
    return frame_s, [steps[number, 2] - steps[number, 1] for number in firsts]
