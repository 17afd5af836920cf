"""Where the time of a whole render goes, by what the workers say of themselves."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from render.config.compose import load_config
from render.job.job import draft, prepared, render
from tests.benchmarks.table import Table

#: What a phase of `seconds_spent` is, for people.
PHASES = {
    "kernel": "kernel: the wait for gradients",
    "margin": "margins: lent, and filled in",
    "windows": "windows: cut out of the block",
    "gradients": "gradients: kept and summed",
    "waiting": "steps: order, and the wait for other workers",
    "filter": "filter of the gradient",
    "update": "update of the canvas",
    "resample": "octave changes: source, detail, resampling",
    "checkpoint": "checkpoints",
    "preview": "previews",
}
QUICK = ("output.width=96", "octaves.count=2", "octaves.steps=2", "objective.terms=[mixed0]", "farm.executor=inline")


def measure(quick: bool) -> Table:
    """Renders `conf/preview.yaml` as it is; `quick` renders a tiny picture in this process."""
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        config = load_config("preview", ["quiet=true", f"output.dir={place}/run", *(QUICK if quick else ())])
        begun = time.perf_counter()
        with prepared(draft(config)) as job:

            def asked(method: str) -> list[Any]:
                return job.executor.fetch([job.executor.call(number, method) for number in range(job.executor.workers)])

            def waited() -> float:
                """Seconds for which kernels waited for their programs; others were made beside the work."""
                return fmean(programs.waited for programs in asked("program_times"))

            def finding() -> dict[str, Any]:
                compiling = waited() - before
                own = asked("seconds_spent")
                spent.update({name: fmean(one.get(name, 0.0) for one in own) for one in own for name in one})
                # Whoever calls a kernel first waits for its program too.
                spent["kernel"] -= compiling
                spent["compiling"] = compiling
                return {}

            before = waited()
            started = time.perf_counter()
            render(job, finding)
            workers = job.executor.workers
        total = time.perf_counter() - begun
        record = json.loads((Path(place) / "run" / "run.json").read_text())
        height, width = job.plan.final.shape
    # What is left: the record written, the screen told, workers let go.
    closing = total - (started - begun) - record["seconds"]["dream"] - record["seconds"]["export"]
    rows = split(spent, record["seconds"], started - begun, closing)
    return Table(
        name="phases",
        title=f"a whole render, {width} x {height} px, {', '.join(job.resolved.schedule.layers)}, {workers} worker of "
        f"{job.resume_key.threads} threads: where its time goes",
        columns=("phase", "seconds", "percent"),
        rows=[{"phase": name, "seconds": seconds, "percent": 100 * seconds / total} for name, seconds in rows.items()]
        + [{"phase": "all", "seconds": total, "percent": 100.0}],
        notes=("phases of workers are the mean over workers; starting Python and its imports is not in it",),
    )


def split(spent: Mapping[str, float], recorded: Mapping[str, float], starting: float, closing: float) -> dict[str, float]:
    """Seconds by phase, for people: what workers `spent`, and what the run `recorded` of the rest, s."""
    rows = {"start-up: farm, weights, first program": starting, "other programs: the wait for them": spent["compiling"]}
    # Sorting fails on a phase that has no text, whose time would be missing here.
    named = sorted(spent.keys() - {"compiling"}, key=list(PHASES).index)
    rows |= {PHASES[name]: spent[name] for name in named}
    rows["driver: calls, results, waiting"] = recorded["dream"] - sum(spent.values())
    return rows | {"export": recorded["export"], "closing": closing}
