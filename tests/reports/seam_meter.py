"""Renders one job with several halos and prints what the seam meter says of the canvas and of the picture in each format.

    python -m tests.reports.seam_meter [conf=preview] [key=value ...]

Without words: 1400 x 1221 px of mixed2 in tiles of 192 px, about six minutes on two cores. The error falls as
the root of the number of borders: 13 borders of 1,300 px make 0.02, so that 52 are needed for 0.01.
"""

from __future__ import annotations

import io
import sys
import time

import numpy as np
from PIL import Image

from render.__main__ import split_arguments
from render.canvas.image import to_integers
from render.export.print_layout import borders
from render.preflight.seams import Seams, measure
from tests.reports.seam import dream

_JOB = (
    "image=sample:hubble",
    "output.width=1400",
    "octaves.count=2",
    "octaves.steps=6",
    "objective.terms=[mixed2]",
    "tiles.size=192",
)


def meter(pixels: np.ndarray, tile: int) -> Seams:
    """The seam meter on a whole picture or canvas, (rows, columns, 3), in tiles of `tile` px."""
    height, width = pixels.shape[:2]
    seams = measure(
        lambda rect: pixels[slice(*rect.rows), slice(*rect.columns)],
        (height, width),
        borders(height, tile),
        borders(width, tile),
    )
    assert seams is not None
    return seams


def coded(pixels: np.ndarray, form: str, **options: int) -> np.ndarray:
    """8-bit pixels after they have been through a format."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def main() -> None:
    """Renders and prints."""
    _, root, overrides = split_arguments(sys.argv[1:])
    words = [*_JOB, *overrides]
    tile = int(next(word.partition("=")[2] for word in reversed(words) if word.startswith("tiles.size=")))
    print("halo      measured on                ratio  +- error   borders, px along them")
    for halo in ("exact", "balanced", "0"):
        start = time.perf_counter()
        canvas = dream(root, [*words, f"tiles.halo={halo}"])
        print(f"# halo {halo}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        picture = to_integers(canvas, 8)
        for name, pixels in (
            ("float canvas", canvas),
            ("8-bit picture", picture),
            ("JPEG 92, full colour", coded(picture, "jpeg", quality=92, subsampling=0)),
            ("JPEG 80, half colour", coded(picture, "jpeg", quality=80, subsampling=2)),
            ("WebP 92", coded(picture, "webp", quality=92)),
        ):
            seams = meter(pixels, tile)
            along = f"{sum(seams.borders):7}, {48 * seams.segments:6,}"
            print(f"{halo:9} {name:25} {seams.ratio:6.3f} +- {seams.error:.3f} {along}", flush=True)


if __name__ == "__main__":
    main()
