"""The report about looks, on changes of which the figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reports.looks import Figures, main, table_of
from tests.support.picture_measures import chroma_noise


def test_a_look_is_measured_beside_a_plain_dream() -> None:
    source = np.full((64, 96, 3), 100.0)
    noise = np.random.default_rng(0).normal(0, 10, source.shape)
    plain = chroma_noise(noise)
    calm, grey = Figures.of(source, source + noise / 2, plain), Figures.of(source, source + noise[..., :1], plain)
    assert calm.noise_ratio == pytest.approx(0.25)
    assert grey.noise_ratio == pytest.approx(0, abs=1e-9)
    clipped = source + noise / 2
    clipped[:32] = 255
    assert Figures.of(source, clipped, plain).newly_clipped == pytest.approx(0.5)


def test_a_goal_is_missed_where_one_picture_misses_it() -> None:
    calm, noisy, clipped = Figures(0, 0.4, 0.5), Figures(0, 0.6, 0.5), Figures(0.02, 0.1, 0.5)
    table = table_of({"calm": [calm], "noisy": [calm, calm, noisy], "clipped": [calm, clipped]})
    assert [holds for _, holds in table.goals.items()] == [True, False, False]


@pytest.mark.parametrize("words", [[], ["sweep=nowhere"], ["sweep=nowhere", "width=3"]])
def test_what_holds_no_looks_is_refused_in_a_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
