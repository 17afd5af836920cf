"""The farm's benchmarks, proven with small sizes, and what they rest on: how workers count their time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from render.config.schema import FarmConfig
from render.farm.ray.pool import RayFarm
from render.farm.worker.timings import PhaseTimer, timed
from render.geometry.geometry import KernelShape
from tests.benchmarks import linear, overhead, phases, scaling
from tests.benchmarks.table import Table


def column(table: Table, name: str) -> list[float]:
    return [float(row[name]) for row in table.rows]


def test_a_phase_within_a_phase_stops_the_other() -> None:
    now = 0.0

    class Busy:
        def __init__(self) -> None:
            self.timer = PhaseTimer(lambda: now)

        @timed("outer")
        def work(self, *, fails: bool) -> float:
            nonlocal now
            now += 2
            with self.timer.phase("inner"):
                now += 5
                if fails:
                    raise ValueError
            now += 1
            return now

    busy = Busy()
    assert busy.work(fails=False) == 8
    # What lies between counts nowhere.
    now = 100
    with pytest.raises(ValueError):
        busy.work(fails=True)
    now = 1000
    assert busy.timer.seconds() == {"outer": 3 + 2, "inner": 5 + 5}
    with busy.timer.phase("later"):
        now = 1004
        assert busy.timer.seconds()["later"] == 4
        now = 1005
    assert busy.timer.seconds() == {"outer": 5, "inner": 10, "later": 5}


def test_phases_add_up_to_the_whole_render() -> None:
    table = phases.measure(quick=True)
    *parts, whole = column(table, "seconds")
    assert sum(parts) == pytest.approx(whole, rel=1e-3)
    assert column(table, "percent")[-1] == 100
    found = {str(row["phase"]): float(row["seconds"]) for row in table.rows}
    for phase in ("kernel", "margin", "windows", "gradients", "update", "resample", "checkpoint", "preview"):
        assert found[phases.PHASES[phase]] > 0, phase
    assert phases.PHASES["filter"] not in found


@pytest.mark.slow
def test_overhead_is_of_steps_over_kernels() -> None:
    (row,) = overhead.measure(quick=True).rows
    assert (row["workers"], row["tiles"], row["window px"]) == (1, 12, "184 x 184")
    assert min(float(row["kernel s"]), float(row["step s"])) > 0
    assert overhead.Step(seconds=5.4, kernel=5.0).overhead == pytest.approx(0.08)


@pytest.mark.slow
def test_scaling_counts_what_kernels_take_and_what_is_sent() -> None:
    table = scaling.measure(quick=True)
    assert column(table, "workers") == [1, 2]
    assert column(table, "kernel s") == pytest.approx([16 * 0.05, 8 * 0.05])
    assert all(0 < share <= 101 for share in column(table, "efficiency %"))
    assert column(table, "MB sent") == pytest.approx(column(table, "MB by geometry"))
    assert column(table, "MB sent")[1] > 0


def test_a_sleeping_device_takes_one_window_after_the_other() -> None:
    shape = KernelShape((8, 8), (4, 4))
    sleeper = scaling.Sleeper(0.05)
    first, second = (sleeper(shape, np.zeros((8, 8, 3), np.float32), None, (0, 0)) for _ in range(2))
    # Later still where this process was made to pause in between.
    assert second._there >= first._there + 0.05
    np.testing.assert_array_equal(np.asarray(second), np.ones((4, 4, 3), np.float32))


def test_the_cost_of_a_pixel_is_measured_at_every_size() -> None:
    table = linear.measure(quick=True)
    assert column(table, "Mpx") == [128**2 / 1e6, 256**2 / 1e6]
    # Six renders of the small canvas, of two steps each, and two of the large one, of one step.
    assert column(table, "steps") == [12, 2]
    for row in table.rows:
        assert 0 < float(row["least"]) <= float(row["ns a pixel-step"]) <= float(row["most"])
        assert float(row["ns a pixel besides"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("own", [None, "glibc.malloc.hugetlb=0"])
def test_workers_take_memory_in_large_pages(own: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the C library reads it: from what the process was started with. The user's own word counts."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    farm = RayFarm(FarmConfig(workers=1), threads=1)
    try:
        (member,) = farm._idle
        assert member.facts is not None
        given = Path(f"/proc/{member.facts.pid}/environ").read_bytes().split(b"\0")
    finally:
        farm.close()
    assert f"GLIBC_TUNABLES={own or 'glibc.malloc.hugetlb=1'}".encode() in given
