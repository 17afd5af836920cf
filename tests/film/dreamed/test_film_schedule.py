"""Objectives and stages of frames between dreams, and the sources that a loop ends with."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.config.film_schema import FilmConfig
from render.dreaming.objectives import Objective, resolve
from render.dreaming.stage import Conditioning, Region, Stage
from render.film.dreamed.film_schedule import FilmSchedule, blended_objective, blended_stage
from render.film.dreamed.frame_sources import LoopEnd, frame_number, frame_seed
from render.film.dreamed.keyframes import read_keyframes
from render.film.dreamed.timeline import Crossfade, FrameSettings, Timeline
from render.networks.weights import MODELS
from render.planning.schedule import Schedule

NETWORK = MODELS["inception_v3"].architecture


def objective(*terms: object) -> Objective:
    return resolve(terms, NETWORK)


def weights(blended: Objective) -> dict[str, float]:
    return {term.layer: term.weight for term in blended.terms}


def schedule(*objectives: Objective, stage: Stage | None = None) -> Schedule:
    regions = tuple(Region(number) for number in range(len(objectives)))
    return Schedule(objectives, (), (stage or Stage(2, 1.0, regions),))


def test_weights_cross_over_relative_to_the_largest_of_each_dream() -> None:
    first, second = objective("4*mixed3", "2*mixed4"), objective("100*mixed4", "-50*mixed5")
    assert weights(blended_objective(first, second, 0.5)) == {"mixed3": 0.5, "mixed4": 0.75, "mixed5": -0.25}
    assert weights(blended_objective(first, second, 0.0)) == {"mixed3": 4, "mixed4": 2}


def test_opposite_dreams_have_a_direction_at_every_share() -> None:
    first, second = objective("mixed3"), objective("-1*mixed3")
    assert weights(blended_objective(first, second, 0.5)) == {"mixed3": 0.5}
    assert weights(blended_objective(first, second, 0.75)) == {"mixed3": -0.5}


@given(st.floats(0, 1, exclude_max=True))
def test_all_frames_between_two_dreams_share_compiled_kernels(share: float) -> None:
    film = FilmSchedule(schedule(objective("mixed3")), [schedule(objective("mixed3")), schedule(objective("mixed4"))])
    (stage,), objectives = film.frame(FrameSettings(0, 0, Crossfade(0, 1, share), None, None))
    number = stage.regions[0].objective
    assert objectives[number].structure == film.objectives[number].structure
    assert len(objectives[number].terms) == (1 if share == 0 else 2)
    assert {stage for stages in film.all_stages() for stage in stages[0].objectives} <= set(range(len(film.objectives)))


def test_two_regions_may_have_the_same_terms_with_other_weights() -> None:
    first = schedule(objective("mixed3", "2*mixed4"), objective("mixed3", "3*mixed4"))
    (stage,), objectives = FilmSchedule(first, [first]).frame(FrameSettings(0, 0, Crossfade(0, 0, 0), None, None))
    assert [weights(objectives[region.objective])["mixed4"] for region in stage.regions] == [2, 3]


def test_a_term_that_is_named_twice_counts_twice() -> None:
    twice = schedule(objective("mixed3", "mixed3", "mixed4"))
    (stage,), objectives = FilmSchedule(twice, [twice]).frame(FrameSettings(0, 0, Crossfade(0, 0, 0), None, None))
    assert weights(objectives[stage.regions[0].objective]) == {"mixed3": 2, "mixed4": 1}


def test_numbers_of_stages_are_interpolated_and_what_excludes_each_other_never_meets() -> None:
    first = Stage(2, 1.0, conditioning=Conditioning(laplacian=4, decorrelate=0.8, shoulder=24))
    second = Stage(6, 3.0, conditioning=Conditioning(smoothing=2.0, luminance_only=True))
    early, late = blended_stage(first, second, 0.25), blended_stage(first, second, 0.75)
    assert (early.steps, early.step_size) == (3, 1.5)
    assert early.conditioning == Conditioning(laplacian=4, decorrelate=pytest.approx(0.6), shoulder=18)
    assert late.conditioning == Conditioning(smoothing=1.5, luminance_only=True, shoulder=6)
    assert blended_stage(first, second, 0.0) == first


def test_keyframes_may_set_steps_and_step_sizes() -> None:
    film = FilmSchedule(schedule(objective("mixed3")), [schedule(objective("mixed3"))])
    config = FilmConfig(keyframes=[{"at": 1, "step_size": 3, "octaves": {"steps": 6}}])
    timeline = Timeline(read_keyframes(config), Fraction(2), step_size=1.0, steps=2)
    (stage,), _ = film.frame(timeline.settings(1))
    assert (stage.steps, stage.step_size) == (4, 2.0)


def test_the_end_of_a_loop_is_an_even_cross_fade() -> None:
    end, own = LoopEnd(frames=20, blended=5), 1.0
    shares = []
    for frame in range(20):
        left = end.left(frame)
        own *= 1 - (1 / left if left else 0)
        shares.append(own)
    assert shares[14] == 1
    assert shares[15:] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])
    assert [end.rest(frame) for frame in (14, 15, 19)] == pytest.approx([1, 0.8, 0])


def test_frames_draw_other_numbers_than_the_picture_and_each_other() -> None:
    assert frame_seed(7, 0) == 7
    seeds = {frame_seed(seed, frame) for seed in range(5) for frame in range(200)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert frame_number(7, 3, 1) != frame_number(7, 3, 2)


def test_films_of_other_dreams_have_another_identity() -> None:
    first = schedule(objective("mixed3"))
    others = (
        schedule(objective("mixed4")),
        schedule(objective("2*mixed3", "mixed4")),
        schedule(objective("mixed3"), stage=Stage(3, 1.0)),
    )
    identities = [FilmSchedule(first, [first, dream]).identity for dream in (first, *others)]
    assert len(set(identities)) == 4
    assert identities[0] == FilmSchedule(first, [first, schedule(objective("mixed3"))]).identity
