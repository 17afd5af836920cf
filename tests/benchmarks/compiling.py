"""How long a kernel takes to compile, and to load where it was compiled before: each time in a new process.

Cold with an empty directory for compiled kernels, then with what the first process left there. `compiled` counts what
was not found in that directory, `compiled again` the same for the second process: 0 where the cache works. Medians over
rounds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.benchmarks.contender import OURS, Contender, Ready
from tests.benchmarks.table import Table
from tests.benchmarks.trained import missing

KERNELS = {"inception_v3": "mixed5", "googlenet": "inception_4c"}


def measure(quick: bool) -> Table:
    side, rounds = (128, 1) if quick else (1024, 3)
    models = [model for model in KERNELS if missing(model) is None][: 1 if quick else None]
    rows: list[dict[str, str | float]] = []
    for model in models:
        pairs = [_cold_and_cached(model, KERNELS[model], side) for _ in range(rounds)]
        rows.append(
            {
                "model": model,
                "layer": KERNELS[model],
                "window": side,
                "cold s": median(cold.compile_seconds for cold, _, _ in pairs),
                "cached s": median(cached.compile_seconds for _, cached, _ in pairs),
                "compiled": max(cold.compilations for cold, _, _ in pairs),
                "compiled again": max(cached.compilations for _, cached, _ in pairs),
                "MB kept": median(size for _, _, size in pairs) / 1e6,
            }
        )
    notes = tuple(filter(None, map(missing, KERNELS)))
    return Table("compiling", "Compiling a kernel, and loading it again in a new process", tuple(rows[0]), rows, {}, notes)


def _cold_and_cached(model: str, layer: str, side: int) -> tuple[Ready, Ready, int]:
    """Return the preparation time without and with a cache, and the bytes of the cache."""
    with tempfile.TemporaryDirectory() as place:
        seconds = []
        for _ in range(2):
            with Contender(OURS, Path(place)) as contender:
                seconds.append(contender.prepare(model, layer, side))
        size = sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
    return seconds[0], seconds[1], size
