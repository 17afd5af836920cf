"""The benchmark of a film's frames: a real film, of the least size."""

from __future__ import annotations

import pytest

from tests.benchmarks.films import MAX_OVERHEAD, frame_times, measure


@pytest.mark.slow
def test_a_frame_is_timed_beside_its_steps() -> None:
    table = measure(quick=True)
    (row,) = table.rows
    frame, steps = float(row["frame s"]), float(row["its steps s"])
    assert steps > 0 and frame == pytest.approx(steps + float(row["besides s"]))
    assert list(table.goals.values()) == [frame / steps - 1 <= MAX_OVERHEAD]


def test_times_of_frames_and_steps_are_read_from_the_log() -> None:
    log = """
2026-01-31 10:00:01,000 INFO frame 0 octave 1 step 1
2026-01-31 10:00:02,000 INFO frame 0 octave 1 step 2
2026-01-31 10:00:03,500 INFO frame 1 of 3
2026-01-31 10:00:04,000 INFO frame 1 octave 1 step 1
2026-01-31 10:00:04,250 INFO frame 1 octave 1 step 2
2026-01-31 10:00:05,000 INFO frame 2 of 3
"""
    assert frame_times(log) == ([1.5], [0.25])
