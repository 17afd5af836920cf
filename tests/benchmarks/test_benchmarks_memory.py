"""The benchmarks of memory and of tile sizes, at sizes that only show that they work."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from render.farm.worker.process import KERNELS
from render.system.paths import cache_directory
from tests.benchmarks import memory, tiles


def test_the_memory_benchmark_compares_the_plan_with_what_a_render_took() -> None:
    table = memory.measure(quick=True)
    (row,) = table.rows
    assert 0 < row["kernel GB"] < row["all planned GB"]
    # A process with JAX in it takes this much, and no small render three times as much.
    assert 0.2 < row["all GB"] < 2
    assert row["all off"] == pytest.approx(row["all planned GB"] / row["all GB"] - 1)
    (holds,) = table.goals.values()
    assert holds == (abs(row["all off"]) <= memory.BOUND)


def test_a_render_that_fails_is_not_measured() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        memory.peaks(["octaves.count=none"])


def test_kernels_are_compiled_where_memory_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All else that the user has is there: weights are not fetched again."""
    users = tmp_path / "users"
    monkeypatch.setenv("XDG_CACHE_HOME", str(users))
    for name in (KERNELS, "weights"):
        (cache_directory() / name).mkdir(parents=True)
    made = memory.cache_without_kernels(tmp_path / "ours")
    monkeypatch.setenv("XDG_CACHE_HOME", str(made))
    assert [entry.name for entry in cache_directory().iterdir()] == ["weights"]
    assert (cache_directory() / "weights").resolve() == users / cache_directory().name / "weights"


def test_the_tiles_benchmark_measures_what_auto_would_take() -> None:
    table = tiles.measure(quick=True)
    assert [row["size"] for row in table.rows] == ["auto", "64"]
    # The whole canvas fits.
    assert [row["tiles"] for row in table.rows] == [1, 6]
    assert max(row["to the best size"] for row in table.rows if row["size"] != "auto") == 1
    assert all(row["window Mpx/s"] >= row["Mpx/s"] > 0 for row in table.rows)
    assert len(table.goals) == 1
