"""The report on random faults, with a few of them."""

from __future__ import annotations

import pytest

from tests.reports.chaos import disturbed


@pytest.mark.slow
def test_a_killed_worker_a_killed_raylet_and_a_stopped_worker_leave_the_same_bytes() -> None:
    chaos = disturbed(["worker", "raylet", "stop"], seed=2, stop_s=3.0)
    assert chaos.wrong == []
    assert chaos.counts == {"worker": 1, "raylet": 1, "stop": 1}
    assert chaos.recoveries >= 2
