"""Points of a sweep: each is exactly the config that Hydra composes for its words, and quick to make."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render.config.compose import load_config
from render.config.schema import Config
from render.errors import UserError
from render.sweeps.axes.definition import AxisValue, SweepAxis, SweepDefinition, point_label
from render.sweeps.axes.parsing import parse_sweep
from render.sweeps.axes.points import expand, point_count, rank

#: Values of keys of every kind, valid and invalid, as words write them.
VALUES = {
    "seed": ["1", "7", "-1", "many", "1.5"],
    "step_size": ["1", "2.0", "1e-1", "[1,2,3]", "fast", "null"],
    "image": ["sample:coffee", "a b.jpg", "it's (1).png", "'quoted, name.png'", "1e3", "a${b}.png"],
    "name": ["other", "'night'", "a/b"],
    "objective": ["eyes", "dogs", "auto", "nothing"],
    "model": ["googlenet", "inception_v3"],
    "model.weights": ["mine.npz", "null"],
    "objective.terms": ["[mixed4]", "[mixed3,0.5*mixed5:1+2]", "[{layer: mixed4, channels: [12]}]", "null", "mixed4"],
    "objective.mask": ["null", "sky.png", "{image: a.png, feather: 2}", "{invert: true}", "5"],
    "objective.regions": ["[]", "[{mask: a.png, terms: [mixed3]}]", "[a.png]"],
    "objective.by_model": ["{inception_v3: [mixed4]}", "{googlenet: [inception_4c]}"],
    "octaves.count": ["3", "4", "0", "1.5"],
    "octaves.scale": ["1.3", "2", "1", "wide", "${octaves.count}"],
    "octaves.steps": ["5", "[3,2,1]", "[4,3,2,1]", "many"],
    "octaves": ["{count: 3}", "{count: 2, steps: 4}", "{cuont: 2}"],
    "tiles.size": ["auto", "256", "3"],
    "conditioning.laplacian": ["0", "4", "[1,2,3]"],
    "conditioning.smoothing": ["0", "1.5"],
    "conditioning.luminance_only": ["true", "false", "yes"],
    "source.background": ["[1,2,3]", "[1,2]", "white"],
    "output.contrast": ["null", "[1,99]", "[0.5,99.5]"],
    "output.width": ["64", "null", "wide"],
    "output.title": ["A dream", "'it, said'", "null"],
    "boundary.mode": ["wrap", "reflect", "nowhere"],
}


def words(*keys: str):
    """Return a strategy for `key=value` words of these keys, by default of all."""
    pick = st.sampled_from(keys or sorted(VALUES))
    return pick.flatmap(lambda key: st.sampled_from(VALUES[key]).map(lambda text: f"{key}={text}"))


@st.composite
def grids(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Draw words that hold for all points, and the words of each axis."""
    keys = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3, unique=True))
    axes = [
        [f"{key}={text}" for text in draw(st.lists(st.sampled_from(VALUES[key]), min_size=1, max_size=2, unique=True))]
        for key in keys
    ]
    rest = sorted(set(VALUES) - set(keys))
    fixed = draw(st.lists(words(*rest), max_size=2, unique_by=lambda word: word.partition("=")[0]))
    return fixed, axes


def outcome(config_words: list[str]) -> Config | str:
    """Return the config that words make, or the error that refuses them."""
    try:
        return load_config("preview", config_words)
    except UserError as error:
        return str(error)


CONFIG = parse_sweep("preview", ["seed=1,2"]).config


@settings(max_examples=12)
@given(grids())
def test_points_are_what_hydra_composes(grid: tuple[list[str], list[list[str]]]) -> None:
    fixed, words = grid
    axes = [
        SweepAxis(axis_words[0].partition("=")[0], tuple(AxisValue(word, (word,)) for word in axis_words))
        for axis_words in words
    ]
    for point in expand(SweepDefinition("preview", CONFIG, tuple(axes), tuple(fixed))):
        expected = outcome([*fixed, *point.words])
        if isinstance(expected, Config):
            assert point.config == expected
            assert not point.error
        else:
            # If several values are invalid, the message names either.
            assert point.config is None
            assert len(point.error.splitlines()) == 1


@pytest.mark.parametrize("key", sorted(VALUES))
def test_every_value_of_a_key_is_as_hydra_composes_it(key: str) -> None:
    """Single invalid values are refused with the same message."""
    fixed = ["objective.mask={image: b.png, invert: false}"] if key != "objective.mask" else []
    values = tuple(AxisValue(text, (f"{key}={text}",)) for text in VALUES[key])
    for point in expand(SweepDefinition("preview", CONFIG, (SweepAxis(key, values),), tuple(fixed))):
        assert (point.config or point.error) == outcome([*fixed, *point.words])


def test_points_come_in_order_the_last_axis_fastest() -> None:
    definition = parse_sweep("preview", ["objective=eyes,dogs", "seed=range(0,3)", "step_size=1,2"])
    points = list(expand(definition))
    assert point_count(definition) == len(points) == 12
    assert [point.number for point in points] == list(range(12))
    assert [point.value_indices for point in points] == sorted(point.value_indices for point in points)
    assert points[7].value_indices == (1, 0, 1)
    assert points[7].words == ("objective=dogs", "seed=0", "step_size=2")
    assert point_label(definition.axes, points[7].value_indices) == "objective dogs, seed 0, step_size 2"


def test_a_bad_value_spoils_its_own_points_alone() -> None:
    definition = parse_sweep("preview", ["step_size=1,fast,2", "objective=eyes,nothing", "seed=1,2"])
    points = list(expand(definition))
    bad = [point for point in points if point.config is None]
    assert [point.value_indices for point in bad] == [
        point.value_indices for point in points if point.value_indices[0] == 1 or point.value_indices[1] == 1
    ]
    assert all("step_size=fast" in point.error or "nothing" in point.error for point in bad)


def test_combinations_are_checked_not_values_alone() -> None:
    definition = parse_sweep("preview", ["octaves.count=2,3", "octaves.steps=[4,5],[4,5,6],7"])
    good = [point.value_indices for point in expand(definition) if point.config is not None]
    assert good == [(0, 0), (0, 2), (1, 1), (1, 2)]
    errors = [point.error for point in expand(definition) if point.config is None]
    assert all(re.search(r"octaves\.steps lists [23] octaves, and there are [32]", error) for error in errors)


def test_points_share_nothing_that_can_be_changed() -> None:
    first, second = expand(
        parse_sweep("preview", ["objective.terms=[mixed4]", "seed=1,2", "output.contrast=choice([1,99])"])
    )
    assert first.config is not None
    assert second.config is not None
    first.config.farm.executor = "inline"
    first.config.objective.terms.append("mixed5")
    assert first.config.output.contrast is not None
    first.config.output.contrast.append(3)
    assert (second.config.farm.executor, second.config.objective.terms) == ("auto", ["mixed4"])
    assert second.config.output.contrast == [1, 99]


def test_what_refers_to_another_key_follows_it() -> None:
    definition = parse_sweep("preview", ["name='night-${seed}'", "seed=1,2"])
    assert [point.config and point.config.name for point in expand(definition)] == ["night-1", "night-2"]
    for step in ("'${octaves.scale}'", "${octaves.scale}"):
        definition = parse_sweep("preview", ["octaves.scale=2,3", f"step_size=1,{step}"])
        assert [point.config.step_size for point in expand(definition) if point.config] == [1, 2.0, 1, 3.0], step


def test_a_config_may_leave_a_key_to_the_axes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nimage: ???\n")
    images = "image=sample:coffee,sample:hubble"
    assert [point.config and point.config.image for point in expand(parse_sweep(str(path), [images]))] == [
        "sample:coffee",
        "sample:hubble",
    ]
    points = list(expand(parse_sweep(str(path), ["seed=1,2"])))
    assert all(point.config is None and point.error.startswith("image has no value") for point in points)


def _fastest_s(work: Callable[[], object]) -> float:
    """Seconds of this thread in the fastest of three calls, which other threads and collected garbage slow least."""
    seconds = []
    for _ in range(3):
        started = time.thread_time()
        work()
        seconds.append(time.thread_time() - started)
    return min(seconds)


def test_a_thousand_points_take_under_two_milliseconds_each() -> None:
    definition = parse_sweep(
        "preview", ["seed=range(0,25)", "step_size=range(1,5,0.1)", "objective.terms=[mixed3],[mixed4]"]
    )
    assert point_count(definition) == 2000

    def expand_a_thousand() -> None:
        assert all(point.config is not None for point in islice(expand(definition), 1000))

    assert _fastest_s(expand_a_thousand) < 2.0


def test_an_axis_of_a_thousand_values_takes_under_two_milliseconds_each() -> None:
    def expand_all() -> None:
        assert len(list(expand(parse_sweep("preview", ["sweep.channels=mixed10:0-999"])))) == 1000

    assert _fastest_s(expand_all) < 2.0


def test_a_billion_points_are_counted_at_once() -> None:
    def count() -> None:
        definition = parse_sweep(
            "preview", ["seed=range(0,1000)", "step_size=range(1,101,0.1)", "octaves.scale=range(2,102,0.1)"]
        )
        assert point_count(definition) == 10**9
        assert next(iter(expand(definition))).config is not None

    assert _fastest_s(count) < 2.0


def test_points_with_more_of_what_comes_first_rank_higher(tmp_path: Path) -> None:
    first = "sweep.first=['step_size=2','terms=mixed4','objective.terms=[mixed4]']"
    definition = parse_sweep("preview", ["objective.terms=[mixed3],[mixed4]", "step_size=1,2.0", first])
    assert [rank(definition, point) for point in expand(definition)] == [0, 1, 2, 3]
    path = tmp_path / "points.yaml"
    path.write_text("- {seed: 1, step_size: 2}\n- {seed: 2, step_size: 2}\n")
    definition = parse_sweep("preview", [f"sweep.points={path}", "sweep.first=['seed=2']"])
    assert [rank(definition, point) for point in expand(definition)] == [0, 1]


def test_no_point_of_a_sweep_without_first_ranks_higher() -> None:
    definition = parse_sweep("preview", ["seed=1,2"])
    assert {rank(definition, point) for point in expand(definition)} == {0}
