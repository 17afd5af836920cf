"""Effects of objectives and conditioning on a real picture, measured: guides, forms, colours, masks."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from render.dreaming.resample import Pixels
from render.networks.network import Network
from render.networks.weights import Loaded
from tests.reports.conditioning import dreamed, low_share
from tests.support.picture_measures import chroma_noise, clipped_share
from tests.support.untiled import photo

SMALL = ["image=sample:chelsea", "output.width=224", "octaves.count=3", "octaves.steps=6"]


def features(loaded: Loaded, pixels: Pixels, layer: str) -> np.ndarray:
    """Activations at all positions, each of length 1: (positions, channels)."""
    network = Network(loaded.architecture.truncated([layer]), loaded.parameters)
    activations = np.asarray(network(jnp.asarray(pixels), [layer])[layer])
    activations = activations.reshape(-1, activations.shape[-1])
    return activations / np.linalg.norm(activations, axis=1, keepdims=True)


def likeness(loaded: Loaded, pixels: Pixels, guide: Pixels, layer: str) -> float:
    """How close each position comes to its nearest in the guide: the mean cosine."""
    return float((features(loaded, pixels, layer) @ features(loaded, guide, layer).T).max(1).mean())


@pytest.mark.slow
def test_a_guided_dream_comes_to_resemble_its_own_guide(inception: Loaded, tmp_path: Path) -> None:
    guides = {name: photo(240, 320, name) for name in ("coffee", "rocket")}
    dreams = {}
    for name, pixels in guides.items():
        Image.fromarray(np.rint(pixels).astype(np.uint8)).save(tmp_path / f"{name}.png")
        term = f"{{layer: mixed5, guide: {tmp_path}/{name}.png}}"
        source, dreams[name] = dreamed([*SMALL, f"objective.terms=[{term}]"])
    before = {name: likeness(inception, source, guide, "mixed5") for name, guide in guides.items()}
    for guide_name, other in (("coffee", "rocket"), ("rocket", "coffee")):
        gained = {
            name: likeness(inception, dreams[name], guides[guide_name], "mixed5") - before[guide_name] for name in dreams
        }
        assert gained[guide_name] > 0.02
        assert gained[guide_name] > gained[other] + 0.02
    # They are as far from each other as either is from the source.
    distance = min(np.abs(dream - source).mean() for dream in dreams.values())
    assert np.abs(dreams["coffee"] - dreams["rocket"]).mean() > 0.8 * distance


@pytest.mark.slow
def test_a_laplacian_pyramid_dreams_larger_forms() -> None:
    words = ["image=sample:chelsea", "output.width=320", "octaves.count=1", "octaves.steps=8", "objective.terms=[mixed4]"]
    shares = []
    for levels in (0, 4):
        source, canvas = dreamed([*words, f"conditioning.laplacian={levels}"])
        shares.append(low_share(canvas - source, 8))
    assert shares[1] > 2 * shares[0]


@pytest.mark.slow
def test_a_luminance_dream_keeps_the_sources_colours() -> None:
    words = ["image=sample:coffee", "output.width=160", "octaves.count=2", "octaves.steps=4", "objective.terms=[mixed2]"]
    source, plain = dreamed(words)
    _, grey = dreamed([*words, "conditioning.luminance_only=true"])

    def moved(canvas: Pixels) -> float:
        """Return the change of red minus green, where nothing was cut off at black or white."""
        inside = ((canvas > 0) & (canvas < 255)).all(-1)
        return float(np.abs((canvas - source)[..., 0] - (canvas - source)[..., 1])[inside].mean())

    assert moved(plain) > 1
    assert moved(grey) < 0.1 * moved(plain)
    assert np.abs(grey - source).mean() > 2


@pytest.mark.slow
def test_nothing_is_dreamed_where_the_mask_is_black(tmp_path: Path) -> None:
    mask = np.zeros((100, 160), np.uint8)
    mask[:, :80] = 255
    Image.fromarray(mask).save(tmp_path / "left.png")
    words = ["image=sample:coffee", "output.width=320", "octaves.count=1", "octaves.steps=4", "objective.terms=[mixed2]"]
    source, canvas = dreamed([*words, f"objective.mask={tmp_path}/left.png"])
    assert (canvas[:, 165:] == source[:, 165:]).all()
    # The step is what it says where the mask is white.
    assert np.abs(canvas[:, :155] - source[:, :155]).mean() > 2


@pytest.mark.slow
def test_colours_of_a_decorrelated_dream_hold() -> None:
    """Half the noise of colour at most, and nothing newly black or white."""
    words = ["image=sample:coffee", "output.width=240", "octaves.count=3", "octaves.steps=6", "objective.terms=[mixed3]"]
    source, plain = dreamed(words)
    _, canvas = dreamed([*words, "conditioning.decorrelate=1", "conditioning.shoulder=32"])
    assert chroma_noise(canvas - source) < 0.5 * chroma_noise(plain - source)
    assert clipped_share(canvas) <= clipped_share(source) + 0.002 < clipped_share(plain)
    assert np.abs(canvas - source).mean() > 4


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["none", "adam"])
def test_a_decorrelated_step_does_not_depend_on_tiles(optimizer: str) -> None:
    """With the real network: a step by tiles of 48 px and in one window, where pixels move by 6 levels on average."""
    words = ["image=sample:coffee", "output.width=160", "octaves.count=1", "octaves.steps=1", "objective.terms=[mixed2]"]
    words += ["conditioning.decorrelate=1", "conditioning.shoulder=48", "step_size=6", f"optimizer.name={optimizer}"]
    (source, tiled), (_, untiled) = (dreamed([*words, f"tiles.size={size}"]) for size in (48, 512))
    assert np.abs(untiled - source).mean() > 3
    assert np.abs(tiled - untiled).mean() < 1e-4 * 6
