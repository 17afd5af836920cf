"""The benchmarks of memory and of tile sizes, at sizes that only show that they work."""

from __future__ import annotations

import subprocess

import pytest

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


def test_the_tiles_benchmark_measures_what_auto_would_take() -> None:
    table = tiles.measure(quick=True)
    assert [row["size"] for row in table.rows] == ["auto", "64"]
    # The whole canvas fits.
    assert [row["tiles"] for row in table.rows] == [1, 6]
    assert max(row["to the best size"] for row in table.rows if row["size"] != "auto") == 1
    assert all(row["window Mpx/s"] >= row["Mpx/s"] > 0 for row in table.rows)
    assert len(table.goals) == 1
