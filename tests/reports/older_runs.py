"""Makes the runs of an older version that the tests go on with, `tests/data/older_runs.tar.gz`, from a commit.

    python -m tests.reports.older_runs [commit=HEAD]

A run, a sweep and a run in an object store, each stopped on the way.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from render.storage.opening import open_storage
from tests.reports.same_canvases import ROOT, checked_out
from tests.support.s3 import serving

DATA = ROOT / "tests" / "data" / "older_runs.tar.gz"
BUCKET = "s3://older/run"
_TINY = (
    "image=sample:chelsea", "output.width=64", "octaves.count=1", "octaves.steps=150", "objective.terms=[mixed0]",
    "checkpoint.every=0", "farm.executor=inline", "quiet=true",
)  # fmt: skip
#: The words that made each, and that go on with it.
RUN = ("render", *_TINY, "output.dir=run")
SWEEP = ("sweep", *_TINY, "sweep.dir=sweep", "seed=0,1")
STORED = ("render", *_TINY, f"output.dir={BUCKET}")


def stopped(tree: Path, words: tuple[str, ...], place: Path, is_begun: Callable[[], bool]) -> None:
    """Run a command with the program in `tree`, and interrupt it once something has been saved."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "RENDER_OVERRIDES": "", "XDG_CACHE_HOME": str(place / "cache")}
    process = subprocess.Popen([sys.executable, "-m", "render", *words], cwd=place, env=environment)
    while not is_begun() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    if process.wait(120) != 130:
        raise SystemExit(f"{' '.join(words)}: ended with {process.returncode} before it was stopped")


def main(words: Mapping[str, str]) -> None:
    """Write the data anew."""
    with checked_out(words.get("commit", "HEAD")) as tree, tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        stopped(tree, RUN, place, (place / "run" / "canvas" / "manifest.json").exists)
        # Once the first point is done and the second has saved something.
        stopped(tree, SWEEP, place, lambda: len(list(place.glob("sweep/points/*/canvas/manifest.json"))) == 2)
        with serving(place / "log") as server:
            server.make_bucket(BUCKET.split("/")[2])
            storage = open_storage(BUCKET)
            stopped(tree, STORED, place, lambda: storage.info("canvas/manifest.json") is not None)
            for facts in storage.tree():
                (place / "bucket" / facts.name).parent.mkdir(parents=True, exist_ok=True)
                storage.fetch(facts.name, place / "bucket" / facts.name)
        DATA.parent.mkdir(exist_ok=True)
        with tarfile.open(DATA, "w:gz") as archive:
            for name in ("run", "sweep", "bucket"):
                archive.add(place / name, name)


if __name__ == "__main__":
    main(dict(word.split("=", 1) for word in sys.argv[1:]))
