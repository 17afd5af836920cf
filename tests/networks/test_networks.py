"""Both networks against float64 PyTorch figures, Keras, and the class that GoogLeNet must see."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.config.schema import SourceConfig
from render.dreaming.resample import resample_array
from render.networks.network import Network
from render.networks.weights import Loaded, load
from render.source.photo import read_photo
from render.source.source import sample_path
from tests.conftest import SHARED, needs

#: Names in the reference file that differ from ours.
ALIASES = {
    "conv1": "conv1/7x7_s2",
    "conv2": "conv2/3x3",
    "conv_2": "conv2d_2b_3x3",
    "conv_4": "conv2d_4a_3x3",
}
MODELS = ("googlenet", "inception_v3")


@pytest.mark.parametrize("model", MODELS)
def test_activations_agree_with_the_reference_at_every_layer(model: str, loaded_by_name, reference) -> None:
    loaded: Loaded = loaded_by_name(model)
    network = Network(loaded.architecture, loaded.parameters)
    listed = [key.split("/")[1] for key in reference if key.startswith(f"{model}/") and key.endswith("/shape")]
    layers = [layer for layer in listed if layer not in ("logits", "pool")]
    assert len(layers) >= 11
    pixels = jnp.asarray(reference["pixels"], jnp.float32)
    outputs = network(pixels, [ALIASES.get(layer, layer) for layer in layers])
    for layer in layers:
        activation = np.asarray(outputs[ALIASES.get(layer, layer)])
        assert activation.shape == tuple(reference[f"{model}/{layer}/shape"])
        difference = activation.ravel()[reference[f"{model}/{layer}/index"]] - reference[f"{model}/{layer}/value"]
        assert np.abs(difference).max() <= 1e-4 * reference[f"{model}/{layer}/mean_std"][1], layer


@pytest.mark.parametrize(
    ("model", "layer"),
    [("googlenet", layer) for layer in ("inception_3b", "inception_4c", "inception_4e")]
    + [("inception_v3", layer) for layer in ("mixed2", "mixed4", "mixed5")],
)
def test_input_gradients_agree_with_the_reference(model: str, layer: str, loaded_by_name, reference) -> None:
    loaded: Loaded = loaded_by_name(model)
    network = Network(loaded.architecture.truncated([layer]), loaded.parameters)
    pixels = jnp.asarray(reference["pixels"], jnp.float32)
    gradient = np.asarray(jax.jit(jax.grad(lambda p: (network(p, [layer])[layer] ** 2).sum()))(pixels))
    expected = reference[f"{model}/{layer}/grad_value"]
    actual = gradient.ravel()[reference[f"{model}/{layer}/grad_index"]]
    assert np.linalg.norm(actual - expected) <= 1e-2 * np.linalg.norm(expected)
    assert np.abs(gradient).mean() == pytest.approx(float(reference[f"{model}/{layer}/grad_mean_abs"]), rel=1e-3)


def test_googlenet_logits_agree_with_the_reference(googlenet: Loaded, reference) -> None:
    logits = np.asarray(
        Network(googlenet.architecture, googlenet.parameters).logits(jnp.asarray(reference["pixels"], jnp.float32))
    )
    difference = logits[reference["googlenet/logits/index"]] - reference["googlenet/logits/value"]
    assert np.abs(difference).max() <= 1e-4 * reference["googlenet/logits/mean_std"][1]


def test_googlenet_sees_the_cat(googlenet: Loaded) -> None:
    """Short side 256, centre crop 224, as the weights' notes have it.

    They say Egyptian cat .47, tiger cat .28, tabby .12.
    """
    names = needs(SHARED / "weights" / "imagenet_synset_words.txt").read_text().splitlines()
    photo = read_photo(sample_path("chelsea"), SourceConfig())
    height, width = photo.shape[:2]
    photo = resample_array(photo, (256, round(width * 256 / height)))
    top, left = (photo.shape[0] - 224) // 2, (photo.shape[1] - 224) // 2
    pixels = jnp.asarray(photo[top : top + 224, left : left + 224])
    shares = jax.nn.softmax(Network(googlenet.architecture, googlenet.parameters).logits(pixels))
    best = np.argsort(-np.asarray(shares))[:3]
    seen = {names[index].split(" ", 1)[1].split(",")[0].lower(): float(shares[index]) for index in best}
    assert list(seen) == ["egyptian cat", "tiger cat", "tabby"]
    assert [round(share, 2) for share in seen.values()] == pytest.approx([0.47, 0.28, 0.12], abs=0.03)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Keras' own, about its legacy format.
@pytest.mark.parametrize("whole_model", [False, True])
def test_keras_weights_give_keras_activations(whole_model: bool, tmp_path: Path) -> None:
    """Keras builds, initialises, saves and computes; only the file passes between the two."""
    import keras

    keras.utils.set_random_seed(3)
    model = keras.applications.InceptionV3(weights=None, include_top=whole_model, classes=7)
    random = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.get_weights()[0].shape
            layer.set_weights([random.normal(0.2, 0.3, size), random.normal(0, 0.3, size), random.uniform(0.3, 2, size)])
    path = tmp_path / "keras.weights.h5" if not whole_model else tmp_path / "keras.h5"
    model.save(path) if whole_model else model.save_weights(path)
    blocks = [f"mixed{index}" for index in range(11)]
    pixels = random.uniform(0, 255, (299, 299, 3)).astype(np.float32)
    oracle = keras.Model(model.input, [model.get_layer(block).output for block in blocks])
    expected = oracle.predict(keras.applications.inception_v3.preprocess_input(pixels[None].copy()), verbose=0)

    loaded = load("inception_v3", path)
    activations = Network(loaded.architecture, loaded.parameters)(jnp.asarray(pixels), blocks)
    for block, theirs in zip(blocks, expected, strict=True):
        assert np.abs(np.asarray(activations[block]) - theirs[0]).max() <= 1e-4 * theirs.std(), block
