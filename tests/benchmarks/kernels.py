"""Speed of the kernel beside PyTorch: same weights, layer, window, objective and threads.

Next to TensorFlow, too, where it has been asked for. Contenders take turns, call by call, each in a process of its own:
see `contender`. Rates are megapixels a second, medians over rounds; ratios are medians of the ratio within each round.
`window` counts all pixels that the kernel is given, `core` those whose gradient is exact, which is what a tiled render
gets; where the exact halo leaves no core such a window serves only canvases that fit into it, and the gradient of all of
it is computed. Otherwise ours computes that of the core alone, others, for want of such a kernel, that of the window.
Memory is the peak of a call, beyond what the process holds anyway. `apart` is the largest relative distance (L2) of
another's gradient of the core from ours.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from render.system.machine import cores
from tests.benchmarks.contender import CHANNELS_LAST, EAGER, OURS, TENSORFLOW, TENSORFLOW_READY, Contender, core_side
from tests.benchmarks.others import Others
from tests.benchmarks.table import Table, interleaved, ratio
from tests.benchmarks.trained import missing, trained

LAYERS = {
    "googlenet": ("inception_3b", "inception_4c", "inception_4e"),
    "inception_v3": ("mixed2", "mixed4", "mixed5", "mixed7"),
}
#: Side of the windows, px, and rounds.
SIDES = {512: 5, 1024: 3, 2048: 3}
QUICK_LAYERS = {"googlenet": ("inception_3a",), "inception_v3": ("mixed0",)}
QUICK_SIDES = {160: 1}
#: Model, layer, side, contender, and how many times as fast as it we mean to be.
GOALS = (
    ("inception_v3", "mixed5", 1024, CHANNELS_LAST, 1.0),
    ("googlenet", "inception_4c", 1024, EAGER, 1.5),
)
_RIVALS = (EAGER, CHANNELS_LAST)


def measure(quick: bool) -> Table:
    layers, sides = (QUICK_LAYERS, QUICK_SIDES) if quick else (LAYERS, SIDES)
    names, notes = [OURS, *_RIVALS], []
    if importlib.util.find_spec("torch") is None:
        names = [OURS]
        notes.append("PyTorch is left out: it is not installed (the extra bench has it)")
    if TENSORFLOW_READY.exists():
        names.append(TENSORFLOW)
    else:
        notes.append("TensorFlow is left out: tensorflow=true installs it, in an environment of its own")
    notes += filter(None, map(missing, layers))
    rows, goals = [], {}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as place:
        contenders = {name: stack.enter_context(Contender(name)) for name in names}
        others = Others()
        for model in filter(lambda name: missing(name) is None, layers):
            for layer in layers[model]:
                for side, rounds in sides.items():
                    row = _measure(contenders, model, layer, side, rounds, Path(place))
                    rows.append(row)
                    for *where, rival, minimum in GOALS:
                        if where == [model, layer, side] and rival in contenders:
                            reached = float(row[f"/ {rival}"])
                            goals[f"{minimum} x {rival} on {model} {layer} at {side} px: {reached:.2f}"] = (
                                reached >= minimum
                            )
        # Whoever shares cores with others waits for the slowest of its threads: PyTorch, which divides work evenly, most.
        notes.append(others.note)
    columns = (
        "model", "layer", "window", "core", *(f"{name} Mpx/s" for name in names), *(f"/ {name}" for name in names[1:]),
        "of core Mpx/s", *(f"{name} GB" for name in names if name != TENSORFLOW), *(["apart"] if len(names) > 1 else []),
    )  # fmt: skip
    title = f"Kernel throughput, {cores()} threads each: windows of WINDOW x WINDOW px, exact halo"
    return Table("kernels", title, columns, rows, goals, tuple(notes))


def _measure(
    contenders: Mapping[str, Contender], model: str, layer: str, side: int, rounds: int, place: Path
) -> dict[str, str | float]:
    for contender in contenders.values():
        contender.prepare(model, layer, side)
    seconds = interleaved({name: contender.call for name, contender in contenders.items()}, rounds)
    core = core_side(trained(model).architecture.layer(layer), side)
    rate = {name: side**2 / 1e6 / median(found) for name, found in seconds.items()}
    row: dict[str, str | float] = {"model": model, "layer": layer, "window": side}
    if core:
        row |= {"core": core, "of core Mpx/s": rate[OURS] * core**2 / side**2}
    row |= {f"{name} Mpx/s": value for name, value in rate.items()}
    row |= {f"/ {name}": ratio(seconds, name, OURS) for name in contenders if name != OURS}
    for name, contender in contenders.items():
        if (peak := contender.peak_bytes()) is not None:
            row[f"{name} GB"] = peak / 1e9
    if len(contenders) > 1:
        row["apart"] = _apart(contenders, core or side, place)
    return row


def _apart(contenders: Mapping[str, Contender], core: int, place: Path) -> float:
    """Return the largest relative distance (L2) of gradients from ours, in the core of the window."""
    gradients = {name: contender.gradient(place / "gradient.npy") for name, contender in contenders.items()}
    ours = gradients.pop(OURS)

    def distance(other: np.ndarray) -> float:
        first = (len(other) - core) // 2
        return float(np.linalg.norm(other[first : first + core, first : first + core] - ours) / np.linalg.norm(ours))

    return max(map(distance, gradients.values()))
