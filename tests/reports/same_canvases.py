"""Render six small jobs with two versions of the program; compare canvases and pictures.

    python -m tests.reports.same_canvases [against=HEAD] [jobs=plain,tiled]

`against` is a commit; the other version is the working tree. Run before and after every change that should change nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zarr
from PIL import Image

ROOT = Path(__file__).parents[2]
SMALL = (
    "image=sample:chelsea",
    "output.width=160",
    "octaves.count=2",
    "octaves.steps=3",
    "objective.terms=[mixed1]",
    "quiet=true",
)
INLINE = "farm.executor=inline"
#: Words of the command for each job; every run directory below the working directory is compared.
JOBS: Mapping[str, tuple[str, ...]] = {
    "plain": ("render", *SMALL, INLINE, "output.dir=plain", "output.also=[tiff,dzi]", "seed=3"),
    "regions": (
        "render", *SMALL, INLINE, "output.dir=regions", "objective.mask=mask.png",
        "objective.regions=[{mask: {image: mask.png, invert: true, feather: 2}, terms: ['mixed0:3', '-0.5*mixed1']}]",
    ),
    "filters": (
        "render", *SMALL, INLINE, "output.dir=filters", "conditioning.laplacian=4", "optimizer.name=adam",
        "conditioning.pull=0.05", "step_size=[2,1]",
    ),
    "tiled": ("render", *SMALL, "output.dir=tiled", "tiles.size=48", "farm.workers=3", "checkpoint.every=0"),
    "wrap": (
        "render", *SMALL, INLINE, "output.dir=wrap", "boundary.mode=wrap", "tiles.size=64", "image=noise",
        "output.height=96",
    ),
    "sweep": ("sweep", *SMALL, "sweep.dir=sweep", "octaves.count=1", "seed=0,1", "step_size=1,2"),
}  # fmt: skip


def fingerprints(tree: Path, words: tuple[str, ...]) -> dict[str, str]:
    """Run one job with the program in a directory; return the sha256 of each canvas and picture, by its name."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        mask = np.zeros((60, 80), np.uint8)
        mask[10:40, 20:70] = np.linspace(0, 255, 50, dtype=np.uint8)
        Image.fromarray(mask).save(place / "mask.png")
        environment = {**os.environ, "PYTHONPATH": str(tree), "RENDER_OVERRIDES": ""}
        process = subprocess.run([sys.executable, "-m", "render", *words], cwd=place, env=environment, check=False)
        if process.returncode:
            raise SystemExit(f"{tree}: {' '.join(words)}: exit code {process.returncode}")
        digests = dict(canvases(place)) | dict(pictures(place))
    if not digests:
        raise SystemExit(f"{tree}: {' '.join(words)}: no canvas")
    return digests


def canvases(place: Path) -> Iterator[tuple[str, str]]:
    """Hash the pixels of every canvas in a directory, read with Zarr alone."""
    for path in sorted(place.rglob("manifest.json")):
        slot = json.loads(path.read_text())["checkpoints"][0]["slot"]
        pixels = zarr.open_array(str(path.parent / slot), mode="r")[:]
        yield str(path.parent.relative_to(place)), hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def pictures(place: Path) -> Iterator[tuple[str, str]]:
    """Hash every picture file but the mask and contact sheets, which say how long things took."""
    for path in sorted(place.rglob("*")):
        if path.suffix in (".png", ".tif", ".jpg") and path.name not in ("mask.png", "sheet.png"):
            yield str(path.relative_to(place)), hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Yield a directory with the files of a commit, and remove it afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], check=True)


def main(words: list[str]) -> int:
    """Compare byte for byte; return 1 if anything differs."""
    options = dict(word.split("=", 1) for word in words)
    names = options.get("jobs", ",".join(JOBS)).split(",")
    differing = 0
    with checked_out(options.get("against", "HEAD")) as before:
        for name in names:
            old, new = fingerprints(before, JOBS[name]), fingerprints(ROOT, JOBS[name])
            changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
            differing += len(changed)
            print(f"{name:8} {len(old):3} canvases and pictures, {len(changed)} differ {' '.join(changed)}", flush=True)
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
