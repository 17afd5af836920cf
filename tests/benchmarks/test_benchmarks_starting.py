"""The benchmark of how a render starts: a real one, of the least size."""

from __future__ import annotations

import pytest

from tests.benchmarks.starting import PHASES, measure, start


@pytest.mark.slow
def test_every_phase_of_a_start_is_timed_in_order() -> None:
    table = measure(quick=True)
    assert [row["phase"] for row in table.rows] == list(PHASES)
    ended = {str(row["phase"]): float(row["ended s"]) for row in table.rows}
    in_turn = [ended[phase] for phase in PHASES if phase != "weights loaded"]
    assert in_turn[0] > 0 and in_turn == sorted(in_turn)
    # Weights wait for the draft, and the kernel for them.
    assert ended["imports, config, draft"] < ended["weights loaded"] < ended["kernel ready"]
    assert sum(float(row["took s"]) for row in table.rows) == pytest.approx(ended["first step"])
    assert list(table.goals.values()) == [ended["first step"] < 6]


def test_a_render_that_cannot_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="there is no model 'nothing'"):
        start(["model=nothing"])
