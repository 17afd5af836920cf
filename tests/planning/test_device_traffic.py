"""The measured traffic of kernels on accelerators; `tests/accelerators` compares it with what XLA says anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from render.networks.weights import MODELS
from render.planning.device_traffic import MEASURED, kernel_work

WINDOW = (768, 512)


@pytest.mark.parametrize("model", MODELS)
def test_every_layer_of_every_network_is_in_the_table(model: str) -> None:
    architecture, measured = MODELS[model].architecture, MEASURED[model]
    layers = list(architecture.layers)
    places = [layers.index(entry.layer) for entry in measured]
    assert places == sorted(places)
    assert measured[-1].layer == architecture.nodes[-1].name
    for layer in layers:
        part = architecture.truncated([layer])
        exact, reduced, half = (
            kernel_work(part, WINDOW, WINDOW, name) for name in ("float32", "tensorfloat32", "bfloat16")
        )
        assert exact == reduced
        assert exact.flop == half.flop == part.gradient_flops(WINDOW, WINDOW)
        deepest = part.nodes[-1].name
        (entry, *_) = [entry for entry in measured if layers.index(entry.layer) >= layers.index(deepest)]
        assert exact.bytes == round(entry.float32 * part.activation_bytes(*WINDOW))
        assert half.bytes == round(entry.bfloat16 * part.activation_bytes(*WINDOW))


@pytest.mark.parametrize(("model", "layer"), [("inception_v3", "mixed5"), ("googlenet", "inception_4c")])
def test_a_smaller_core_saves_a_part_of_the_backward_pass(model: str, layer: str) -> None:
    part, window = MODELS[model].architecture.truncated([layer]), (2048, 2048)
    whole = kernel_work(part, window, window, "bfloat16")
    core = kernel_work(part, window, (512, 512), "bfloat16")
    assert whole.bytes / 2 < core.bytes < 0.8 * whole.bytes
    assert core.flop == part.gradient_flops(window, (512, 512))


@pytest.mark.parametrize("model", ["inception_v3", "googlenet"])
def test_a_network_that_is_not_in_the_table_is_guessed_from_its_activations(model: str) -> None:
    """Near to the table's own figures, by networks that are in it."""
    for entry in MEASURED[model]:
        part = MODELS[model].architecture.truncated([entry.layer])
        for precision in ("float32", "bfloat16"):
            guess = kernel_work(replace(part, name="another"), WINDOW, WINDOW, precision).bytes
            assert guess == pytest.approx(kernel_work(part, WINDOW, WINDOW, precision).bytes, rel=0.45)
