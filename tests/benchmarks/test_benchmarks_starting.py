"""The benchmark of how a render starts: a real one, of the least size."""

from __future__ import annotations

import pytest

from tests.benchmarks.starting import GOAL, PHASES, WAITED, measure, start


@pytest.mark.slow
def test_every_phase_of_a_start_is_timed_in_order() -> None:
    table = measure(quick=True)
    *rows, waited = table.rows
    assert [row["phase"] for row in rows] == list(PHASES)
    ended = {str(row["phase"]): float(row["ended s"]) for row in rows}
    in_turn = [ended[phase] for phase in PHASES]
    assert in_turn[0] > 0 and in_turn == sorted(in_turn)
    assert waited["phase"] == WAITED
    assert 0 <= float(waited["took s"]) < ended["first step"]
    assert sum(float(row["took s"]) for row in rows) == pytest.approx(ended["first step"])
    assert list(table.goals.values()) == [ended["first step"] < GOAL]


def test_a_render_that_cannot_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="there is no model 'nothing'"):
        start(["model=nothing"])
