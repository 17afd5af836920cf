"""Meaning of an objective's words: the grammar of terms, their mapping form, and errors."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.dreaming.objectives import Objective, resolve
from render.dreaming.term_base import Term, TrainedModel
from render.dreaming.term_syntax import parse_term
from render.dreaming.terms import Energy
from render.errors import UserError
from render.networks.weights import MODELS
from tests.conftest import ROOT

INCEPTION = MODELS["inception_v3"].architecture
GOOGLENET = MODELS["googlenet"].architecture


def energy(layer: str, channels: tuple[int, ...] = (), weight: float = 1.0) -> Energy:
    return Energy(layer, channels, weight=weight)


@pytest.mark.parametrize(
    ("written", "term"),
    [
        ("mixed4", energy("mixed4")),
        ("  mixed4 ", energy("mixed4")),
        ("0.5*mixed4", energy("mixed4", (), 0.5)),
        ("0.5 * mixed4", energy("mixed4", (), 0.5)),
        ("-1*mixed4", energy("mixed4", (), -1.0)),
        ("+2*mixed4", energy("mixed4", (), 2.0)),
        (".5*mixed4", energy("mixed4", (), 0.5)),
        ("1e-3*mixed4", energy("mixed4", (), 0.001)),
        ("mixed4:12", energy("mixed4", (12,))),
        ("mixed4:12+40", energy("mixed4", (12, 40))),
        ("mixed4:40+12+0", energy("mixed4", (40, 12, 0))),
        ("mixed4:12,40", energy("mixed4", (12, 40))),
        ("-0.5 * mixed4 : 12 + 40", energy("mixed4", (12, 40), -0.5)),
        ("mixed4/branch-1.a_b:3", energy("mixed4/branch-1.a_b", (3,))),
        ({"layer": "mixed4"}, energy("mixed4")),
        ({"layer": "mixed4", "weight": 2}, energy("mixed4", (), 2.0)),
        ({"layer": "mixed4", "weight": "2.5"}, energy("mixed4", (), 2.5)),
        ({"layer": "mixed4", "channels": None}, energy("mixed4")),
        ({"layer": "mixed4", "channels": 12}, energy("mixed4", (12,))),
        ({"layer": "mixed4", "channels": [12, 40], "weight": -1}, energy("mixed4", (12, 40), -1.0)),
    ],
    ids=str,
)
def test_a_term_means(written: object, term: Term) -> None:
    parsed = parse_term(written)
    assert parsed == term
    assert isinstance(parsed.weight, float)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", ["WEIGHT", "LAYER"]),
        ("mixed4:", ["mixed4:", "LAYER"]),
        ("mixed4:+", ["mixed4:+"]),
        ("mixed4:12+", ["mixed4:12+"]),
        ("mixed4:12 40", ["mixed4:12 40"]),
        ("mixed4:-1", ["mixed4:-1"]),
        ("mixed4:a", ["mixed4:a"]),
        ("mixed4:" + "1" * 5000, ["mixed4"]),
        ("mixed4 mixed5", ["mixed4 mixed5"]),
        ("mixed4:1:2", ["mixed4:1:2"]),
        ("*mixed4", ["*mixed4"]),
        ("2*3*mixed4", ["2*3*mixed4"]),
        ("two*mixed4", ["two*mixed4"]),
        ("1.2.3*mixed4", ["1.2.3", "not a number"]),
        ("0*mixed4", ["0*mixed4", "weight", "other than 0"]),
        ("1e999*mixed4", ["weight", "finite"]),
        ("mixed4:3+3", ["mixed4:3+3", "twice"]),
        (5, ["5", "layer"]),
        (None, ["None", "layer"]),
        (["mixed4"], ["mixed4", "layer"]),
        ({}, ["layer"]),
        ({"weight": 2}, ["layer"]),
        ({"layer": 4}, ["layer"]),
        ({"layer": "mixed4", "chanels": [1]}, ["chanels", "'channels'"]),
        ({"layer": "mixed4", "zzz": 1}, ["zzz"]),
        ({"layer": "mixed4", "weight": 0}, ["weight", "other than 0"]),
        ({"layer": "mixed4", "weight": float("nan")}, ["weight", "finite"]),
        ({"layer": "mixed4", "weight": 10**400}, ["weight"]),
        ({"layer": "mixed4", "weight": "heavy"}, ["heavy", "not a number"]),
        ({"layer": "mixed4", "weight": None}, ["not a number"]),
        ({"layer": "mixed4", "weight": True}, ["not a number"]),
        ({"layer": "mixed4", "weight": [1]}, ["not a number"]),
        ({"layer": "mixed4", "channels": []}, ["channels", "empty"]),
        ({"layer": "mixed4", "channels": "12"}, ["12", "whole numbers"]),
        ({"layer": "mixed4", "channels": [1.5]}, ["1.5", "whole numbers"]),
        ({"layer": "mixed4", "channels": [True]}, ["whole numbers"]),
        ({"layer": "mixed4", "channels": [3, 3]}, ["twice"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_term_that_means_nothing_is_refused(written: object, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse_term(written)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message


layers = st.sampled_from(sorted(INCEPTION.layers) + sorted(GOOGLENET.layers))
weights = st.floats(-1e12, 1e12).filter(lambda weight: weight != 0)
terms = st.builds(energy, layers, st.lists(st.integers(0, 10**9 - 1), unique=True, max_size=5).map(tuple), weights)


@given(terms)
def test_the_text_of_a_term_reads_back_as_the_term(term: Term) -> None:
    assert parse_term(str(term)) == term


@given(terms)
def test_text_and_mapping_say_the_same(term: Term) -> None:
    mapping = {"layer": term.layer, "channels": list(term.channels) or None, "weight": term.weight}
    assert parse_term(mapping) == term


@given(st.text(max_size=30))
def test_any_text_is_a_term_or_a_user_error(text: str) -> None:
    try:
        term = parse_term(text)
    except UserError:
        return
    assert term.layer in text
    assert parse_term(str(term)) == term


def test_texts_are_short_where_they_can_be() -> None:
    assert str(energy("mixed4")) == "mixed4"
    assert str(energy("mixed4", (12, 40), 0.5)) == "0.5*mixed4:12+40"
    assert str(energy("mixed4", (), -2.0)) == "-2*mixed4"
    assert str(Objective((energy("mixed3"), energy("mixed5", (), 0.5)))) == "mixed3 + 0.5*mixed5"


# On a network


def refusal(written: list[object]) -> str:
    with pytest.raises(UserError) as caught:
        resolve(written, INCEPTION)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_terms_resolve_in_their_order() -> None:
    objective = resolve(["mixed5", {"layer": "mixed3", "weight": 2}, "mixed5:1"], INCEPTION)
    assert objective == Objective((energy("mixed5"), energy("mixed3", (), 2.0), energy("mixed5", (1,))))
    assert objective.layers == ("mixed5", "mixed3")


def test_an_empty_list_is_refused() -> None:
    assert "objective.terms" in refusal([])


def test_an_unknown_layer_suggests_the_nearest() -> None:
    message = refusal(["mixed44"])
    assert "mixed44" in message
    assert "mixed4" in message.replace("mixed44", "")


def test_a_layer_of_another_network_is_unknown() -> None:
    assert "inception_v3 has no layer 'inception_4c'" in refusal(["inception_4c"])
    assert resolve(["inception_4c"], GOOGLENET).layers == ("inception_4c",)


@pytest.mark.parametrize("layer", ["mixed4", "mixed10", "conv2d_1a_3x3"])
def test_a_channel_out_of_range_is_told_the_range(layer: str) -> None:
    channels = INCEPTION.layer(layer).channels
    assert resolve([f"{layer}:{channels - 1}"], INCEPTION).terms[0].channels == (channels - 1,)
    for channel in (channels, channels + 7, -1):
        message = refusal([{"layer": layer, "channels": [0, channel]}])
        assert f"0 to {channels - 1}" in message
        assert re.search(rf"not {channel}$", message)


def test_every_layer_of_every_network_can_be_dreamed_of() -> None:
    for architecture in (INCEPTION, GOOGLENET):
        names = list(architecture.layers)
        assert resolve(names, architecture).layers == tuple(names)


def test_planning_and_conducting_do_without_jax() -> None:
    """A driver that starts a farm neither takes the device nor waits for JAX."""
    program = """
import sys
import render.farm.conductor, render.farm.ray.pool, render.job.job
from render.dreaming.objectives import resolve
from render.networks.weights import MODELS
objective = resolve(["mixed3", "0.5*mixed5:1+2"], MODELS["inception_v3"].architecture)
print(len(objective.factors(MODELS["inception_v3"].architecture, (300, 203))), "jax" in sys.modules)
"""
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert process.stdout.split() == ["2", "False"], process.stderr


# Values


@pytest.mark.parametrize("chosen", [(), (0,), (5,), (4, 1), (0, 1, 2, 3, 4, 5)])
def test_a_term_is_the_mean_over_its_channels(chosen: tuple[int, ...]) -> None:
    """Mean square of the whole layer, mean of chosen channels, summed over positions.

    The comparison is in float64.
    """
    activations = np.random.default_rng(0).normal(size=(7, 4, 6))
    term = energy("mixed4", chosen)
    layer = SimpleNamespace(layer=lambda name: SimpleNamespace(channels=6))
    model = TrainedModel(architecture=layer, parameters={}, activations=None)
    expected = activations[..., list(chosen)].mean(-1).sum() if chosen else (activations**2).mean(-1).sum()
    total = term.total(jnp.asarray(activations, jnp.float32), term.constants(model), jnp.array([-1, -1]))
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-5)


def test_the_objective_is_the_weighted_mean_over_positions() -> None:
    """Shares of a partition of the positions add up; the factors make it a mean.

    Weights count relative to the largest, here 2.
    """
    objective = resolve(["2*mixed3", "-0.5*mixed4:1+2"], INCEPTION)
    sizes = INCEPTION.output_sizes(300, 203)
    rng = np.random.default_rng(0)
    activations = {
        name: rng.normal(size=(*sizes[name], INCEPTION.layer(name).channels)).astype(np.float32)
        for name in objective.layers
    }
    factors = jnp.asarray(objective.factors(INCEPTION, (300, 203)))
    model = TrainedModel(architecture=INCEPTION, parameters={}, activations=None)
    constants = [term.constants(model) for term in objective.terms]
    whole = objective.total({name: jnp.asarray(values) for name, values in activations.items()}, factors, constants)
    expected = np.mean(activations["mixed3"] ** 2) - 0.25 * np.mean(activations["mixed4"][..., [1, 2]])
    np.testing.assert_allclose(whole, expected, rtol=1e-4)
    top, bottom = (
        objective.total({name: jnp.asarray(values[part]) for name, values in activations.items()}, factors, constants)
        for part in (slice(0, 5), slice(5, None))
    )
    np.testing.assert_allclose(top + bottom, whole, rtol=1e-4)


@pytest.mark.parametrize("unit", [1.0, 1e-300, 1e300, 3.7])
def test_only_the_ratio_of_weights_matters(unit: float) -> None:
    """And their sign: the ascent divides by the mean gradient, so any unit stays in float32."""
    terms = [{"layer": "mixed4", "weight": 2 * unit}, {"layer": "mixed5", "weight": -unit}]
    factors = resolve(terms, INCEPTION).factors(INCEPTION, (300, 203))
    plain = resolve(["mixed4", "-0.5*mixed5"], INCEPTION).factors(INCEPTION, (300, 203))
    assert factors == pytest.approx(plain)
    assert factors[0] > 0 > factors[1]
