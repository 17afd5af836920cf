"""MACO: only phases move, pictures show their class, and neither neighbours nor workers nor a batch changes one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from render.atlas.attention import opacity
from render.atlas.build import make_atlas
from render.atlas.channel_recipe import ChannelRecipe
from render.atlas.channels import batch_size, draw_channels
from render.atlas.crops import cropped, draw_crops
from render.atlas.spectrum import _DECORRELATED, natural_magnitudes, noise_phases, pixels_of_phases
from render.commands.probe import probe_command
from render.config.atlas_schema import MacoConfig, TransformsConfig
from render.config.compose import load
from render.config.root_kinds import ATLAS
from render.errors import UserError
from render.farm.executors import InlineExecutor
from render.farm.worker.process import WorkerProcess, process_facts
from render.networks.weights import Loaded
from tests.conftest import GOOGLENET_WEIGHTS, ROOT, needs

LAYER = "inception_3a"
SMALL = MacoConfig(crops=2, view=64)


def recipe(loaded: Loaded, layer: str = LAYER, **changes: Any) -> ChannelRecipe:
    usual = ChannelRecipe(
        loaded, layer, neuron=False, size=64, steps=6, rate=0.05, transforms=TransformsConfig(), seed=0, method="maco",
        maco=SMALL,
    )  # fmt: skip
    return replace(usual, **changes)


def words(directory: Path, *more: str) -> list[str]:
    weights = needs(GOOGLENET_WEIGHTS)
    return [
        "model=googlenet", f"model.weights={weights}", "method=maco", "size=64", "steps=3", "maco.crops=2", "maco.view=64",
        "farm.executor=inline", "quiet=true", f"output.dir={directory}", *more,
    ]  # fmt: skip


def made(directory: Path, *more: str) -> list[Path]:
    return make_atlas(load(ATLAS, "atlas", words(directory, *more)))


def refused(directory: Path, *more: str) -> str:
    with pytest.raises(UserError) as caught:
        made(directory, *more)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert not directory.exists()
    return message


# Spectra and crops


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(16, 65), st.floats(0.5, 4))
def test_whatever_the_phases_are_magnitudes_stay_those_of_photographs(seed: int, side: int, contrast: float) -> None:
    magnitudes = natural_magnitudes(side)
    pixels = np.asarray(pixels_of_phases(jnp.asarray(noise_phases(seed, 1, side)), magnitudes, contrast), np.float64)
    assert pixels.shape == (side, side, 3)
    share = np.clip(pixels / 255, 1e-12, 1 - 1e-7)
    colours = np.log(share / (1 - share)) @ np.linalg.inv(_DECORRELATED.astype(np.float64)).T
    assert colours.std() == pytest.approx(contrast, rel=0.05)
    # The first and the last column hold pairs of conjugates, of which only the common part counts.
    found = np.abs(np.fft.rfft2(colours, axes=(0, 1))).transpose(2, 0, 1)[:, :, 1 : (side - 1) // 2]
    ratio = found / magnitudes[:, :, 1 : (side - 1) // 2]
    assert np.median(np.abs(ratio / np.median(ratio) - 1)) < 0.02


def test_magnitudes_fall_as_in_photographs() -> None:
    magnitudes = natural_magnitudes(64)
    assert (magnitudes[:, 0, 0] == 0).all()
    assert magnitudes[0, 0, 4] / magnitudes[0, 0, 8] == pytest.approx(2**1.2)
    assert magnitudes[1, 0, 4] == pytest.approx(magnitudes[0, 0, 4] / 2)


@given(
    low=st.floats(0.02, 1), spread=st.floats(0, 1), crops=st.integers(1, 40), seed=st.integers(0, 2**63 - 1),
    channel=st.integers(0, 4000), step=st.integers(0, 10**6),
)  # fmt: skip
def test_crops_are_within_their_limits_and_drawn_from_their_key_alone(
    low: float, spread: float, crops: int, seed: int, channel: int, step: int
) -> None:
    config = MacoConfig(crops=crops, box=[low, min(1.0, low + spread)])
    drawn = draw_crops(config, seed, channel, step)
    np.testing.assert_array_equal(drawn, draw_crops(config, seed, channel, step))
    assert drawn.shape == (crops, 3)
    assert (drawn[:, 2] >= config.box[0] - 1e-6).all()
    assert (drawn[:, 2] <= config.box[1] + 1e-6).all()
    other = draw_crops(config, seed, channel, step + 1)
    assert (drawn[:, :2] != other[:, :2]).any()


def test_a_crop_of_the_whole_picture_is_the_picture_and_a_smaller_one_its_part() -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (40, 40, 3)).astype(np.float32)
    whole = cropped(jnp.asarray(picture), jnp.asarray([0, 0, 1], jnp.float32), 40)
    np.testing.assert_allclose(whole, picture, atol=1e-3)
    part = cropped(jnp.asarray(picture), jnp.asarray([0.25, 0.5, 0.25], jnp.float32), 10)
    np.testing.assert_allclose(part, picture[10:20, 20:30], atol=1e-3)
    beyond = cropped(jnp.asarray(picture), jnp.asarray([-0.25, 0.75, 0.5], jnp.float32), 20)
    np.testing.assert_allclose(beyond, np.roll(picture, (10, -30), (0, 1))[:20, :20], atol=1e-3)


def test_a_reduced_crop_is_resized_as_jax_does() -> None:
    picture = np.random.default_rng(1).uniform(0, 255, (48, 48, 3)).astype(np.float32)
    reduced = cropped(jnp.asarray(picture), jnp.asarray([0, 0, 1], jnp.float32), 20)
    expected = jax.image.resize(picture, (20, 20, 3), "linear")
    # The picture repeats beyond its edges, where JAX's ends.
    np.testing.assert_allclose(reduced[2:-2, 2:-2], expected[2:-2, 2:-2], atol=0.01)


@given(st.integers(0, 1000), st.integers(8, 60))
def test_masks_are_opaque_where_the_network_looked(seed: int, side: int) -> None:
    attention = np.random.default_rng(seed).uniform(0, 0.1, (side, side)).astype(np.float32)
    attention[: side // 2, : side // 2] += 10
    mask = opacity(attention)
    assert mask.dtype == np.uint8
    assert mask[side // 4, side // 4] > 128 > mask[3 * side // 4, 3 * side // 4]
    assert (opacity(np.zeros((side, side), np.float32)) == 255).all()


# Pictures


def test_a_channel_rises(googlenet: Loaded) -> None:
    for picture in recipe(googlenet, steps=16).make().channel_pictures([3, 70]):
        assert picture.pixels.shape == (64, 64, 3)
        assert picture.has_gradient
        assert picture.end > 1.3 * picture.start, (picture.start, picture.end)
        assert (picture.mask, picture.scores) == (None, None)


def test_a_class_is_seen_in_its_picture_and_not_before(googlenet: Loaded) -> None:
    maco = MacoConfig(crops=3, view=112)
    drawing = recipe(googlenet, "loss3/classifier", size=128, steps=24, maco=maco)
    (picture,) = drawing.make().channel_pictures([323])
    assert picture.scores is not None
    before, after = picture.scores
    assert before.shape == after.shape == (1000,)
    assert before.argmax() != 323
    assert after.argmax() == 323
    assert picture.end > picture.start + 5


@pytest.mark.parametrize("method", ["ascent", "maco"])
def test_neither_neighbours_nor_workers_change_a_picture(googlenet: Loaded, method: str) -> None:
    drawing = recipe(googlenet, method=method)
    several = InlineExecutor([WorkerProcess() for _ in range(3)])
    together = dict(draw_channels(several, drawing, range(5), batch=2))
    assert sorted(together) == list(range(5))
    alone = InlineExecutor([WorkerProcess()])
    for channel, picture in draw_channels(alone, drawing, [4, 1, 2], batch=2):
        np.testing.assert_array_equal(picture.pixels, together[channel].pixels)
        assert (picture.start, picture.end) == (together[channel].start, together[channel].end)
    assert len({picture.pixels.tobytes() for picture in together.values()}) == 5


@pytest.mark.parametrize("method", ["ascent", "maco"])
def test_a_batch_draws_what_single_calls_draw(googlenet: Loaded, method: str) -> None:
    visualiser = recipe(googlenet, method=method).make()
    for single, batched in zip(
        visualiser.channel_pictures([2, 9, 30]), visualiser.channel_pictures([2, 9, 30], 3), strict=True
    ):
        assert np.abs(single.pixels.astype(int) - batched.pixels).max() <= (0 if method == "maco" else 1)
        assert batched.end == pytest.approx(single.end, rel=1e-4)


def test_a_batch_fits_into_the_memory_and_leaves_no_worker_idle(googlenet: Loaded) -> None:
    drawing = recipe(googlenet, size=160, maco=MacoConfig(crops=8, view=160))
    cpu = process_facts()
    gpu = replace(cpu, platform="gpu", device_bytes=80_000_000_000)
    assert batch_size([cpu], drawing, 64, "auto") == 1
    assert batch_size([cpu, cpu], drawing, 64, 4) == 4
    assert batch_size([gpu], drawing, 64, "auto") == 16
    assert batch_size([gpu], replace(drawing, size=1000, method="ascent"), 64, "auto") == 4
    small = replace(gpu, device_bytes=5 * drawing.picture_bytes)
    assert batch_size([gpu, small], drawing, 64, "auto") == 2
    assert batch_size([gpu, gpu], drawing, 6, "auto") == 3
    assert batch_size([replace(gpu, device_bytes=1)], drawing, 6, "auto") == 1


# Atlases


def test_an_atlas_of_classes_names_them_and_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "classes"
    assert made(directory, "classes=[goldfish,great white shark]") == [directory / "index.html", directory / "sheet.png"]
    before = {path.name: path.read_bytes() for path in (directory / "channels").iterdir()}
    assert set(before) == {"channel-1.png", "channel-2.png"}
    (directory / "channels" / "channel-1.png").unlink()
    made(directory, "classes=[dumbbell,1]")
    after = {path.name: path.read_bytes() for path in (directory / "channels").iterdir()}
    assert set(after) == {*before, "channel-543.png"}
    assert all(after[name] == content for name, content in before.items())
    text = (directory / "index.html").read_text()
    assert "<span>great white shark</span>" in text
    assert "3 classes" in text
    assert "classes=[1,2,543]" in text
    assert "method=maco" in text
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data
    entry = json.loads(data[1])[0]
    assert entry["title"] == "goldfish (1)"
    assert entry["facts"].startswith("the network sees ")
    assert "objective.terms=[class:1]" in entry["commands"][0][1]
    assert (
        json.loads((directory / "atlas.json").read_text())["pictures"]["channels/channel-1.png"]["sight"]["asked"]["index"]
        == 1
    )


def test_a_mask_makes_the_rest_transparent(tmp_path: Path) -> None:
    made(tmp_path / "atlas", f"layer={LAYER}", "channels=3", "maco.mask=true")
    with Image.open(tmp_path / "atlas" / "channels" / "channel-3.png") as image:
        assert image.mode == "RGBA"
        alpha = np.asarray(image)[..., 3]
    assert alpha.min() == 0
    assert alpha.max() == 255
    with pytest.raises(UserError, match=r"differs in maco\.mask"):
        made(tmp_path / "atlas", f"layer={LAYER}", "channels=3")


def test_an_older_atlas_goes_on(tmp_path: Path) -> None:
    """What decides an ascent is recorded as it was before there were methods."""
    made(tmp_path / "atlas", "method=ascent", f"layer={LAYER}", "channels=3")
    recorded = json.loads((tmp_path / "atlas" / "atlas.json").read_text())["settings"]
    assert set(recorded) == {
        "model.name", "layer", "seed", "neuron", "size", "steps", "rate", "transforms.jitter", "transforms.scale",
        "transforms.rotate", "weights content", "program",
    }  # fmt: skip


@pytest.mark.slow
def test_a_killed_atlas_and_workers_of_ray_make_the_same_files(tmp_path: Path) -> None:
    chosen = (f"layer={LAYER}", "channels=0-3", "steps=30")
    made(tmp_path / "whole", *chosen)
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "render", "atlas", *words(killed, *chosen)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""},
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 240
    while not list((killed / "channels").glob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert 1 <= len(list((killed / "channels").glob("*.png"))) < 4
    made(killed, *chosen)
    made(tmp_path / "ray", *chosen, "farm.executor=ray", "farm.workers=2", "farm.worker.batch=2")
    for path in [*(tmp_path / "whole" / "channels").iterdir(), tmp_path / "whole" / "sheet.png"]:
        for other in (killed, tmp_path / "ray"):
            assert (other / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes(), (other, path)


def test_a_class_by_ascent_is_drawn_too(tmp_path: Path) -> None:
    made(tmp_path / "atlas", "method=ascent", "classes=543", "transforms.jitter=2", "steps=2")
    assert (tmp_path / "atlas" / "channels" / "channel-543.png").exists()


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["classes=[goldfsh]"], ["googlenet has no class 'goldfsh'", "did you mean goldfish"]),
        (["classes=[crane]"], ["may be crane (134)"]),
        (["classes=[]"], ["classes names none"]),
        (["classes=[1000]"], ["googlenet has no class 1000"]),
        (["classes=[1]", f"layer={LAYER}"], ["classes=[1] and layer=inception_3a: drop one"]),
        (["classes=[1]", "channels=3"], ["classes=[1] and channels=3: drop one"]),
        (["classes=[1]", "model=inception_v3", "model.weights=null"], ["inception_v3 has no classes"]),
        ([], ["method=maco draws channels or classes"]),
        (["method=mako", f"layer={LAYER}"], ["method=mako: must be ascent or maco"]),
        ([f"layer={LAYER}", "neuron=true"], ["neuron=true and method=maco"]),
        ([f"layer={LAYER}", "maco.crops=0"], ["maco.crops=0: must be from 1"]),
        ([f"layer={LAYER}", "maco.crops=100000"], ["maco.crops=100000: must be from 1"]),
        (["layer=inception_4c", "maco.view=8"], ["maco.view=8: inception_4c of googlenet needs at least"]),
        ([f"layer={LAYER}", "maco.box=[0.9,0.4]"], ["maco.box=[0.9, 0.4]: must be two shares"]),
        ([f"layer={LAYER}", "maco.box=[0.4]"], ["maco.box=[0.4]: must be two shares"]),
        ([f"layer={LAYER}", "maco.box=[0.4,nan]"], ["maco.box=[0.4, nan]: must be two shares"]),
        ([f"layer={LAYER}", "maco.noise=-1"], ["maco.noise=-1.0: must be from 0"]),
        ([f"layer={LAYER}", "maco.rate=0"], ["maco.rate=0.0: must be above 0"]),
        ([f"layer={LAYER}", "maco.decay=2"], ["maco.decay=2.0: must be above 0"]),
        ([f"layer={LAYER}", "maco.contrast=inf"], ["maco.contrast=inf: must be above 0"]),
        ([f"layer={LAYER}", "maco.steps=3"], ["unknown config key 'maco.steps'"]),
        (["layer=loss3/classifier", "channels=0-1000"], ["loss3/classifier has channels 0 to 999, not 1000"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(more: list[str], parts: list[str], tmp_path: Path) -> None:
    message = refused(tmp_path / "atlas", *more)
    for part in parts:
        assert part in message, message


# The probe


def test_a_probe_by_maco_prints_what_the_network_sees_and_adds_to_its_atlas(command: Any, tmp_path: Path) -> None:
    probe_words = [word for word in words(tmp_path / "atlas") if word != "quiet=true"]
    first = command("probe", "class=Goldfish", *probe_words)
    assert first.code == 0, first.err
    assert "goldfish (1): before" in first.out
    rows = [line for line in first.out.splitlines() if re.match(r"\s*\d  ", line)]
    assert len(rows) == 5
    assert str(tmp_path / "atlas" / "channels" / "channel-1.png") in first.out.splitlines()
    stamp = (tmp_path / "atlas" / "channels" / "channel-1.png").stat().st_mtime_ns
    again = command("probe", "class=1", *probe_words)
    assert [line for line in again.out.splitlines() if re.match(r"\s*\d  ", line)] == rows
    assert (tmp_path / "atlas" / "channels" / "channel-1.png").stat().st_mtime_ns == stamp
    command("probe", "class=dumbbell", *probe_words)
    assert len(list((tmp_path / "atlas" / "channels").iterdir())) == 2


@pytest.mark.parametrize(
    ("root", "more", "parts"),
    [
        ("probe", ["class=goldfish", "method=mako"], ["method=mako: must be ascent or maco"]),
        ("probe", ["class=goldfsh", "method=maco"], ["did you mean goldfish"]),
        ("probe", ["method=maco"], ["class=NAME"]),
        ("probe", ["class=goldfish", "method=maco", "octaves.tiles=3"], ["octaves.tiles"]),
        ("classes", ["class=goldfish", "model=inception_v3"], ["no classifier"]),
        ("probe", ["class=goldfish", "method=maco", "layer=mixed4"], ["drop one of them"]),
        ("preview", ["class=goldfish", "method=maco"], ["there is no config 'preview'", "classes"]),
    ],
)
def test_what_cannot_be_probed_by_maco_is_one_line(root: str, more: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        probe_command(root, more)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    for part in parts:
        assert part in message


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dumbbell", "goldfish"])
def test_slims_pictures_are_seen_as_their_class(slim: Loaded, name: str) -> None:
    from render.networks.labels import find_class

    index = find_class(name, "inception_v3_slim").index
    drawing = recipe(slim, "logits", size=192, steps=40, maco=MacoConfig(crops=4, view=160))
    (picture,) = drawing.make().channel_pictures([index])
    assert picture.scores is not None
    assert picture.scores[1].argmax() == index
