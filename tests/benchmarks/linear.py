"""Whether a pixel of a large canvas costs what a pixel of a small one does."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from statistics import median
from typing import NamedTuple

from render.config.compose import load_config
from render.config.schema import Config
from render.farm.farms import Farm, open_farm
from render.job.job import draft, prepared
from render.job.resources import store_bytes
from render.job.weight_loading import load_weights
from render.networks.weights import Loaded
from render.system import interrupts
from tests.benchmarks.table import Table

#: By how much the dearest pixel may cost more than the cheapest.
ALLOWED = 0.10
#: A side of the canvas, px, and how many steps are timed there: as many everywhere, since the first touches new memory.
FULL = ((1024, 5), (2048, 5), (4096, 5), (8192, 5))
QUICK = ((128, 2), (256, 1))
#: Whole tiles at every size, so that windows cover every canvas as often. The kernel is a cheap one: the cheaper, the more
#: everything else that may grow with the canvas would show.
LAYER = "conv2d_2a_3x3"


class Cost(NamedTuple):
    """What a render took for each pixel, ns: a step, and everything else from the blank block to the last checkpoint."""

    step: float
    rest: float


def measure(quick: bool) -> Table:
    """Squares of 1, 4, 17 and 67 megapixels, in turn."""
    sizes, tile = (QUICK, 64) if quick else (FULL, 512)
    executor = "inline" if quick else "ray"
    numbers = count()
    with tempfile.TemporaryDirectory() as place:

        def config(side: int, steps: int) -> Config:
            words = [
                "image=noise",
                "quiet=true",
                "octaves.count=1",
                f"octaves.steps={steps}",
                f"objective.terms=[{LAYER}]",
                f"tiles.size={tile}",
                f"output.width={side}",
                f"output.height={side}",
                f"farm.executor={executor}",
                f"output.dir={place}/{next(numbers)}",
            ]
            return load_config("preview", words)

        largest = draft(config(*sizes[-1]))
        loaded = load_weights(largest.resolved.network)
        found: dict[int, list[Cost]] = defaultdict(list)
        with open_farm(
            largest.resolved.farm,
            threads=largest.threads,
            store_bytes=store_bytes(largest.resolved, largest.plan),
            check=interrupts.check,
            say=_nothing,
        ) as farm:
            # What is compiled, imported and touched for the first time.
            _rendered(config(*sizes[0]), farm, loaded)
            # Small canvases, which are soon done, more often: what else the machine does weighs more there.
            small = [*sizes[:-1], *sizes[:-1]]
            for side, steps in [*small, sizes[-1], *small, sizes[-1], *small]:
                found[side].append(_rendered(config(side, steps), farm, loaded))
    means = {side: median(cost.step for cost in costs) for side, costs in found.items()}
    return Table(
        name="linear",
        title=f"a pixel of canvases of several sizes: {LAYER} in tiles of {tile} px, one worker ({executor})",
        columns=("side px", "Mpx", "steps", "ns a pixel-step", "least", "most", "ns a pixel besides"),
        rows=[
            {
                "side px": side,
                "Mpx": side * side / 1e6,
                "steps": steps * len(found[side]),
                "ns a pixel-step": means[side],
                "least": min(cost.step for cost in found[side]),
                "most": max(cost.step for cost in found[side]),
                "ns a pixel besides": median(cost.rest for cost in found[side]),
            }
            for side, steps in sizes
        ],
        goals={
            f"a pixel-step costs the same within {100 * ALLOWED:.0f} % at all sizes": max(means.values())
            <= (1 + ALLOWED) * min(means.values())
        },
        notes=("besides: the source, the checkpoint and the preview, which come once an octave",),
    )


def _rendered(config: Config, farm: Farm, loaded: Loaded) -> Cost:
    with prepared(draft(config), farm, loaded) as job:
        conductor = job.conductor(tell=_nothing)
        begun = time.perf_counter()
        for _ in conductor.run(config.seed):
            pass
        taken = time.perf_counter() - begun
        conductor.release()
        (octave,) = conductor.history
        nanoseconds = 1e9 / job.plan.final.grid.canvas.area
        # The last step waits for its update: in all of them together every update is counted once.
        stepping = sum(octave.seconds)
        return Cost(nanoseconds * stepping / len(octave.seconds), nanoseconds * (taken - stepping))


_nothing: Callable[[str], None] = lambda _line: None  # noqa: E731
