"""Share of large forms in the change that dreaming makes, without and with a Laplacian pyramid.

    python -m tests.reports.conditioning [levels=4] [blur=8] [directory=DIR] [KEY=VALUE ...]

Dreams one picture with `conditioning.laplacian=0` and with `levels`, in this process, and prints how much of the change's
energy a Gaussian blur of `blur` px leaves. With a directory, the pictures are kept there, and one with both side by side.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from render.config.compose import load_config
from render.dreaming.resample import Pixels
from render.geometry.geometry import whole
from render.job.job import draft, prepared


def dreamed(words: list[str]) -> tuple[Pixels, Pixels]:
    """Return the source and the canvas of a job, float32 RGB 0..255."""
    with tempfile.TemporaryDirectory() as place:
        words = ["farm.executor=inline", "quiet=true", *words, f"output.dir={place}/run"]
        with prepared(draft(load_config("preview", words))) as job:
            for _ in job.conductor().run(job.resolved.seed):
                pass
            canvas = job.resolved.directory.canvas()
            shape = canvas.shape
            return job.resolved.source.at(shape, whole(*shape)), canvas.read(canvas.rect)


def low_share(change: Pixels, blur: float) -> float:
    """Return the share of a change's energy, without its mean, that a Gaussian blur leaves.

    Args:
        change: The change of the pixels, (rows, columns, 3).
        blur: Sigma of the blur, px.
    """
    change = change - change.mean((0, 1))
    return float(np.square(gaussian_filter(change, (blur, blur, 0))).sum() / np.square(change).sum())


def main() -> None:
    """Dream twice and print."""
    words = [word.removeprefix("--") for word in sys.argv[1:]]
    options = {"levels": "4", "blur": "8", "directory": ""}
    options |= {key: value for key, _, value in (word.partition("=") for word in words) if key in options}
    words = [word for word in words if word.partition("=")[0] not in options]
    pictures = []
    for levels in (0, int(options["levels"])):
        source, canvas = dreamed([*words, f"conditioning.laplacian={levels}"])
        share = low_share(canvas - source, float(options["blur"]))
        mean_change = np.abs(canvas - source).mean()
        print(f"laplacian={levels}: {100 * share:.1f} % of the change is coarser than {options['blur']} px; "
              f"it moves pixels by {mean_change:.1f} levels on average")  # fmt: skip
        pictures.append(Image.fromarray(np.rint(canvas).astype(np.uint8)))
        if options["directory"]:
            Path(options["directory"]).mkdir(parents=True, exist_ok=True)
            pictures[-1].save(Path(options["directory"]) / f"laplacian-{levels}.png")
    if options["directory"]:
        both = Image.new("RGB", (2 * pictures[0].width + 8, pictures[0].height), "white")
        for number, picture in enumerate(pictures):
            both.paste(picture, (number * (picture.width + 8), 0))
        both.save(Path(options["directory"]) / "side-by-side.png")


if __name__ == "__main__":
    main()
