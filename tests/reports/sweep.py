"""What a sweep saves against separate renders, and what it costs itself.

    python -m tests.reports.sweep [conf=grid] [separate=48] [key=value ...]
    python -m tests.reports.sweep tiny=1000

The first renders a sweep with an empty cache of kernels, and then, with the cache that it filled, so many of its points one
after the other by the command that the page names for each. Their pictures must be the same. The second renders tiny points
and says what of the time was not spent in rendering them.
"""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from render.sweeps.event_log import EVENTS, read_events
from render.system.paths import cache_directory
from tests.conftest import ROOT

TINY = (
    "farm.workers=1",
    "output.width=64",
    "octaves.count=1",
    "octaves.steps=1",
    "objective.terms=[mixed0]",
    "sweep.max=100000",
)


def main() -> None:
    """Prints a report."""
    words = dict(word.partition("=")[::2] for word in sys.argv[1:])
    tiny, separate = int(words.pop("tiny", 0)), int(words.pop("separate", 48))
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RENDER_OVERRIDES": "",
            "XDG_CACHE_HOME": str(directory / "cache"),
        }
        cold_cache(directory / "cache")
        if tiny:
            overhead(directory, environment, tiny)
        else:
            compare(
                directory, environment, [f"{key}={value}" for key, value in {"conf": "grid", **words}.items()], separate
            )


def cold_cache(place: Path) -> None:
    """A cache that has the weights and no kernel."""
    mine = place / cache_directory().name
    mine.mkdir(parents=True)
    for entry in cache_directory().iterdir():
        if entry.name != "kernels":
            (mine / entry.name).symlink_to(entry)


def run(directory: Path, environment: dict[str, str], *words: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "render", *words], cwd=directory, env=environment, check=True, stdout=sys.stderr)
    return time.perf_counter() - begun


def compare(directory: Path, environment: dict[str, str], words: list[str], separate: int) -> None:
    wall = run(directory, environment, "sweep", *words, "sweep.dir=sweep")
    warm = run(directory, environment, "sweep", *words, "sweep.dir=warm")
    made = json.loads((directory / "sweep" / "sweep.json").read_text())
    points = made["points"]
    print(f"sweep: {len(points)} points in {wall:.1f} s; {made['kernels']} kernels, {made['compiled']} compiled")
    print(f"the same in another directory, kernels cached: {warm:.1f} s")
    print(f"most memory of a worker's process: {made['peak_bytes'] / 1e9:.2f} GB, of {made['workers']} workers")
    page = html.unescape((directory / "sweep" / "index.html").read_text())
    commands = dict.fromkeys(re.findall(r"make render [^\"\\]+", page.replace('\\"', "\N{RIGHT DOUBLE QUOTATION MARK}")))
    commands = [one for one in commands if "conf=poster" not in one]
    assert len(commands) == len(points), (len(commands), len(points))
    seconds = []
    for number, command in enumerate(commands[:separate]):
        given = shlex.split(command.replace("\N{RIGHT DOUBLE QUOTATION MARK}", '"'))[2:]
        seconds.append(run(directory, environment, "render", *given, f"output.dir=alone-{number}", "quiet=true"))
    same = sum(
        pixels(directory / f"alone-{n}") == pixels(directory / "sweep" / points[n]["directory"])
        for n in range(len(seconds))
    )
    alone = sum(seconds) / len(seconds) * len(points)
    print(
        f"{len(seconds)} separate renders, kernels cached: {sum(seconds):.1f} s ({sum(seconds) / len(seconds):.2f} s each)"
    )
    print(f"all {len(points)} so: {alone:.0f} s, {alone / warm:.2f} times the sweep with its kernels cached as well")
    print(f"{alone / wall:.2f} times the sweep that had to compile them; {same} of {len(seconds)} pictures alike")


def pixels(run_directory: Path) -> bytes:
    (picture,) = run_directory.glob("*.png")
    return Image.open(picture).tobytes()


def overhead(directory: Path, environment: dict[str, str], number: int) -> None:
    wall = run(directory, environment, "sweep", *TINY, f"seed=range(0,{number})", "sweep.dir=sweep")
    events = [event for event in read_events(directory / "sweep" / EVENTS) if event.kind in ("begun", "finished", "ended")]
    finished = [event for event in events if event.kind == "finished"]
    work = sum(event.facts["seconds"] for event in finished[1:])
    span = finished[-1].time - finished[0].time
    print(f"{number} points in {wall:.1f} s: {span:.1f} s from the first done to the last, {work:.1f} s of it in jobs")
    print(f"handing out and hearing of a point: {1000 * (span - work) / (number - 1):.1f} ms")
    print(f"everything but jobs, with start-up, checking, page and sheets: {1000 * (wall - work) / number:.1f} ms a point")
    again = run(directory, environment, "sweep", *TINY, f"seed=range(0,{number})", "sweep.dir=sweep")
    print(f"the same command again, with nothing to render: {again:.1f} s")


if __name__ == "__main__":
    main()
