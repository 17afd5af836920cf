"""The measured memory of kernels on accelerators; `tests/accelerators` compares it with what XLA says anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from render.networks.weights import MODELS
from render.planning.device_memory import MEASURED, estimated_bytes

WINDOW = (512, 768)


@pytest.mark.parametrize("model", MODELS)
def test_every_layer_of_every_network_is_in_the_table(model: str) -> None:
    architecture, measured = MODELS[model].architecture, MEASURED[model]
    layers = list(architecture.layers)
    places = [layers.index(entry.layer) for entry in measured]
    assert places == sorted(places)
    assert measured[-1].layer == architecture.nodes[-1].name
    for layer in layers:
        part = architecture.truncated([layer])
        exact, reduced, half = (estimated_bytes(part, WINDOW, name) for name in ("float32", "tensorfloat32", "bfloat16"))
        assert exact == reduced
        deepest = part.nodes[-1].name
        (entry, *_) = [entry for entry in measured if layers.index(entry.layer) >= layers.index(deepest)]
        assert exact == round(entry.float32 * part.activation_bytes(*WINDOW))
        assert half == round(entry.bfloat16 * part.activation_bytes(*WINDOW))


@pytest.mark.parametrize("model", ["inception_v3", "googlenet"])
def test_a_network_that_is_not_in_the_table_is_guessed_from_its_activations(model: str) -> None:
    """Near to the table's own figures, by networks that are in it."""
    for entry in MEASURED[model]:
        part = MODELS[model].architecture.truncated([entry.layer])
        for precision in ("float32", "bfloat16"):
            guess = estimated_bytes(replace(part, name="another"), WINDOW, precision)
            assert guess == pytest.approx(estimated_bytes(part, WINDOW, precision), rel=0.45)
