"""Runs that an older version left unfinished go on with this one, and are exported and looked at: `reports.older_runs`."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.storage.opening import open_storage
from tests.conftest import Finished
from tests.reports.older_runs import BUCKET, DATA, RUN, STORED, SWEEP
from tests.support.farm_job import stored
from tests.support.s3 import serving

Command = Callable[..., Finished]


@pytest.fixture
def older(tmp_path: Path) -> Path:
    with tarfile.open(DATA) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The canvas that all of them end with, dreamed on this machine without a stop."""
    from render.__main__ import main

    run = tmp_path_factory.mktemp("fresh") / "run"
    assert main([*RUN[:-1], f"output.dir={run}"]) == 0
    return stored(run)


def test_a_run_goes_on_and_is_exported(older: Path, command: Command, fresh: np.ndarray) -> None:
    assert "interrupted" in command("status", "run=run").out
    shown = command("export", "run=run", "output.path=early.png")
    assert shown.code == 0, shown.err
    done = command(*RUN)
    assert done.code == 0, done.err
    record = json.loads((older / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert len(record["resumed"]) == 1
    # Some steps were made on another machine, whose sums are rounded otherwise.
    assert np.abs(stored(older / "run") - fresh).mean() < 1
    done = command("export", "run=run", "output.path=late.tif")
    assert done.code == 0, done.err
    for name in ("early.png", "late.tif"):
        with Image.open(older / name) as picture:
            assert picture.size == (64, 43)


def test_a_sweep_goes_on_with_what_is_not_done(older: Path, command: Command) -> None:
    assert "1" in command("status", "run=sweep").out
    (done_before,) = older.glob("sweep/points/*/preview.png")
    content, written = done_before.read_bytes(), done_before.stat().st_mtime_ns
    done = command(*SWEEP)
    assert done.code == 0, done.err
    assert len(list(older.glob("sweep/points/*/preview.png"))) == 2
    assert (done_before.read_bytes(), done_before.stat().st_mtime_ns) == (content, written)
    assert (older / "sweep" / "index.html").stat().st_size > 10_000


def test_a_run_in_a_store_goes_on_and_is_fetched(older: Path, command: Command, fresh: np.ndarray) -> None:
    with serving(older / "log") as server:
        server.make_bucket(BUCKET.split("/")[2])
        storage = open_storage(BUCKET)
        for path in sorted((older / "bucket").rglob("*")):
            if path.is_file():
                storage.write_file(path.relative_to(older / "bucket").as_posix(), path)
        words = {"env": {**server.environment, "XDG_CACHE_HOME": str(older / "cache")}}
        done = command(*STORED, **words)
        assert done.code == 0, done.err
        fetched = command("fetch", f"run={BUCKET}", "to=fetched", "canvas=true", **words)
        assert fetched.code == 0, fetched.err
    shutil.rmtree(older / "bucket")
    assert np.abs(stored(older / "fetched") - fresh).mean() < 1
