"""Where the change that dreaming makes lies: the share of it that is large forms, without and with a Laplacian pyramid.

    python -m tests.conditioning_report [levels=4] [blur=8] [directory=DIR] [KEY=VALUE ...]

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
    """The source and the canvas that a job makes of it, float32 RGB 0..255."""
    with tempfile.TemporaryDirectory() as place:
        words = ["farm.executor=inline", "quiet=true", *words, f"output.dir={place}/run"]
        with prepared(draft(load_config("preview", words))) as job:
            for _ in job.conductor().run(job.resolved.seed):
                pass
            canvas = job.resolved.directory.canvas()
            shape = canvas.shape
            return job.resolved.source.at(shape, whole(*shape)), canvas.read(canvas.rect)


def low_share(change: Pixels, blur: float) -> float:
    """The share of a change's energy that a Gaussian blur with a sigma of `blur` px leaves; its mean does not count."""
    change = change - change.mean((0, 1))
    return float(np.square(gaussian_filter(change, (blur, blur, 0))).sum() / np.square(change).sum())


def main() -> None:
    """Dreams twice and prints."""
    words = [word.removeprefix("--") for word in sys.argv[1:]]
    own = {"levels": "4", "blur": "8", "directory": ""}
    own |= {key: value for key, _, value in (word.partition("=") for word in words) if key in own}
    words = [word for word in words if word.partition("=")[0] not in own]
    pictures = []
    for levels in (0, int(own["levels"])):
        source, canvas = dreamed([*words, f"conditioning.laplacian={levels}"])
        share = low_share(canvas - source, float(own["blur"]))
        moved = np.abs(canvas - source).mean()
        print(f"laplacian={levels}: {100 * share:.1f} % of the change is coarser than {own['blur']} px; "
              f"it moves pixels by {moved:.1f} levels on average")  # fmt: skip
        pictures.append(Image.fromarray(np.rint(canvas).astype(np.uint8)))
        if own["directory"]:
            Path(own["directory"]).mkdir(parents=True, exist_ok=True)
            pictures[-1].save(Path(own["directory"]) / f"laplacian-{levels}.png")
    if own["directory"]:
        both = Image.new("RGB", (2 * pictures[0].width + 8, pictures[0].height), "white")
        for number, picture in enumerate(pictures):
            both.paste(picture, (number * (picture.width + 8), 0))
        both.save(Path(own["directory"]) / "side-by-side.png")


if __name__ == "__main__":
    main()
