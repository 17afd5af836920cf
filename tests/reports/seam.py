"""Difference between one job whole and in tiles of 320 and 192 px, with exact halo and none.

    python -m tests.reports.seam [conf=preview] [key=value ...]

Takes many times as long as the render itself: exact tiles this small recompute most of the picture.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from render.__main__ import split_arguments
from render.config.compose import load_config
from render.job.job import draft, prepared
from tests.support.farm_job import held

_WHOLE = 1 << 20


def dream(root: str, overrides: Sequence[str], workers: int = 1, arrangement: tuple[int, int] | None = None) -> np.ndarray:
    """Return the finished canvas of a job, by inline workers by default: (height, width, 3) float32."""
    with tempfile.TemporaryDirectory() as directory:
        words = ["farm.executor=inline", f"farm.workers={workers}", *overrides, f"output.dir={directory}"]
        with prepared(draft(load_config(root, words))) as job:
            conductor = job.conductor(arrangement)
            for _ in conductor.run(job.resolved.seed):
                pass
            return held(conductor)


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two pictures in 8 bits, dB; infinite if they are equal."""
    error = np.mean((np.rint(first) - np.rint(second)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def main() -> None:
    """Render and print."""
    _, root, overrides = split_arguments(sys.argv[1:])
    print("halo    tiles          PSNR        largest difference of the float canvas")
    for halo in ("exact", "0"):
        canvases = {}
        for tile in (_WHOLE, 320, 192):
            start = time.perf_counter()
            canvases[tile] = dream(root, [*overrides, f"tiles.size={tile}", f"tiles.halo={halo}"])
            name = "whole" if tile == _WHOLE else str(tile)
            print(f"# halo {halo}, tile {name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        for (first, first_canvas), (second, second_canvas) in combinations(canvases.items(), 2):
            names = " and ".join("whole" if tile == _WHOLE else str(tile) for tile in (first, second))
            difference = np.abs(first_canvas - second_canvas).max()
            print(f"{halo:7} {names:14} {psnr(first_canvas, second_canvas):5.1f} dB    {difference:.3g}", flush=True)


if __name__ == "__main__":
    main()
