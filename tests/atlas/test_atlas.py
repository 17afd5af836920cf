"""Atlases: activations rise, pictures are the same from any worker, sheets and page name them all."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from safetensors.numpy import save_file
from scipy import ndimage

from render.__main__ import split_arguments
from render.atlas import visualiser
from render.atlas.activation import waking_relu
from render.atlas.build import make_atlas
from render.atlas.channel_recipe import ChannelRecipe
from render.atlas.channels import draw_channels
from render.atlas.ladder import ladder_layers
from render.atlas.page import Entry, page
from render.atlas.spectrum import noise_spectrum, pixels_of
from render.atlas.transforms import STILL, draw_view, margin, seen
from render.config.atlas_schema import AtlasConfig, TransformsConfig, chosen_channels, ranges_text
from render.config.compose import load, load_config, root_configs, schema_keys
from render.config.root_kinds import ATLAS
from render.config.schema import FarmConfig
from render.errors import UserError
from render.export import labelled_sheet as sheets
from render.export.labelled_sheet import Cell, SheetLayout, draw_sheets, sheet_layouts
from render.export.lettering import EMPTY
from render.export.metadata import read_settings
from render.farm.executors import InlineExecutor
from render.farm.ray.pool import RayFarm
from render.farm.worker.process import WorkerProcess
from render.networks.googlenet import GOOGLENET
from render.networks.platforms import tracing_for
from render.networks.weights import Loaded
from render.system.machine import cores
from tests.conftest import GOOGLENET_WEIGHTS, ROOT, needs
from tests.support import browser

STILL_ONES = TransformsConfig(0, 0, 0)
MOVING = TransformsConfig(8, 0.1, 10)
#: A layer near the input, whose network compiles and runs quickly.
LAYER = "inception_3a"


def recipe(loaded: Loaded, layer: str = LAYER, **changes: Any) -> ChannelRecipe:
    usual = ChannelRecipe(loaded, layer, neuron=False, size=64, steps=8, rate=0.05, transforms=MOVING, seed=0)
    return replace(usual, **changes)


def words(directory: Path, *more: str) -> list[str]:
    weights = needs(GOOGLENET_WEIGHTS)
    return [
        "model=googlenet",
        f"model.weights={weights}", f"layer={LAYER}", "size=64", "steps=4", "farm.executor=inline", "quiet=true",
        f"output.dir={directory}", *more,
    ]  # fmt: skip


def made(directory: Path, *more: str) -> list[Path]:
    return make_atlas(load(ATLAS, "atlas", words(directory, *more)))


def pictures(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / "channels").iterdir()}


# Ascent


@pytest.mark.parametrize("transforms", [STILL_ONES, MOVING], ids=["still", "moving"])
@pytest.mark.parametrize("neuron", [False, True], ids=["channel", "neuron"])
def test_what_a_channel_likes_excites_it(googlenet: Loaded, transforms: TransformsConfig, neuron: bool) -> None:
    visualiser = recipe(googlenet, transforms=transforms, neuron=neuron, steps=16).make()
    for channel in (3, 70, 200):
        picture = visualiser.channel_pictures([channel])[0]
        assert picture.pixels.shape == (64, 64, 3)
        assert picture.pixels.dtype == np.uint8
        assert picture.has_gradient
        assert picture.end > 3 * picture.start + 5, (channel, picture.start, picture.end)


def test_the_network_itself_says_that_the_channel_rises(googlenet: Loaded) -> None:
    """Measured on the stored pixels, with an ordinary network."""
    from render.networks.network import Network

    picture = recipe(googlenet, transforms=STILL_ONES, steps=16).make().channel_pictures([12])[0]
    network = Network(googlenet.architecture.truncated([LAYER]), googlenet.parameters)
    means = np.asarray(network(jnp.asarray(picture.pixels, jnp.float32), [LAYER])[LAYER]).mean((0, 1))
    assert means[12] == pytest.approx(picture.end, rel=0.02)
    # Of a picture made for it, the channel makes more than almost any other does.
    assert (means >= means[12]).sum() <= len(means) // 20


def test_inception_v3_rises_too(inception: Loaded) -> None:
    picture = recipe(inception, "mixed0", size=80).make().channel_pictures([5])[0]
    assert picture.end > 2 * picture.start


@pytest.mark.slow
def test_a_channel_that_noise_leaves_silent_is_woken(googlenet: Loaded) -> None:
    """Three of the first sixteen channels of inception_4c have no activation on the starting noise."""
    visualiser = recipe(googlenet, "inception_4c", size=80, steps=12).make()
    silent = [channel for channel in (2, 9, 12) if visualiser.channel_pictures([channel])[0].start == 0]
    assert silent
    for channel in silent:
        picture = visualiser.channel_pictures([channel])[0]
        assert picture.has_gradient
        assert picture.end > 50


def test_the_waking_gradient_is_the_exact_one_wherever_there_is_one() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7)), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(5, 7)), jnp.float32)

    def gradient(rectify: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: (weights * rectify(x)).sum())(x)

    np.testing.assert_array_equal(gradient(waking_relu, x), gradient(jax.nn.relu, x))
    np.testing.assert_array_equal(waking_relu(x), jax.nn.relu(x))
    silent = -jnp.abs(x)
    assert not gradient(jax.nn.relu, silent).any()
    # What would raise them, and nothing that would push them further down.
    np.testing.assert_array_equal(gradient(waking_relu, silent), jnp.maximum(weights, 0))


def test_a_dead_channel_is_said_to_be_dead(googlenet: Loaded, tmp_path: Path) -> None:
    parameters = {name: array.copy() for name, array in googlenet.parameters.items()}
    parameters["inception_3a/1x1/weight"][5] = 0
    parameters["inception_3a/1x1/bias"][5] = -1
    save_file(parameters, tmp_path / "dead.safetensors")
    made(tmp_path / "atlas", "channels=4-5", f"model.weights={tmp_path / 'dead.safetensors'}")
    pictures = json.loads((tmp_path / "atlas" / "atlas.json").read_text())["pictures"]
    assert [pictures[f"channels/channel-{channel}.png"]["found"] for channel in (4, 5)] == [True, False]
    text = (tmp_path / "atlas" / "index.html").read_text()
    assert text.count("nothing excites it") == 1
    assert f"model.weights={tmp_path / 'dead.safetensors'}" in text
    sheet = np.asarray(Image.open(tmp_path / "atlas" / "sheet.png"))
    ((_, layout),) = sheet_layouts(2, (64, 64))
    row, column = layout.corner(1)
    flat = (sheet[row : row + 64, column : column + 64] == EMPTY).all(-1).mean()
    assert 0.5 < flat < 1


# Views and spectra


@given(
    transforms=st.builds(TransformsConfig, st.integers(0, 40), st.floats(0, 0.9), st.floats(0, 180)),
    seed=st.integers(0, 2**63 - 1),
    channel=st.integers(0, 4000),
    step=st.integers(0, 10**6),
)
def test_a_view_is_drawn_within_its_limits_and_from_its_key_alone(
    transforms: TransformsConfig, seed: int, channel: int, step: int
) -> None:
    view = draw_view(transforms, seed, channel, step)
    np.testing.assert_array_equal(view, draw_view(transforms, seed, channel, step))
    assert (np.abs(view[:, 2]) <= transforms.jitter).all()
    assert (view[:, 2] == np.round(view[:, 2])).all()
    matrix = view[:, :2].astype(np.float64)
    scale = 1 / np.sqrt(np.linalg.det(matrix))
    assert 1 - transforms.scale - 1e-5 <= scale <= 1 + transforms.scale + 1e-5
    turned = np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0]))
    assert abs(turned) <= transforms.rotate + 1e-3
    np.testing.assert_allclose(matrix @ matrix.T * scale**2, np.eye(2), atol=1e-5)


def test_views_differ_from_step_to_step_and_from_channel_to_channel() -> None:
    drawn = {draw_view(MOVING, 0, channel, step).tobytes() for channel in range(8) for step in range(8)}
    assert len(drawn) == 64
    shifts = np.array([draw_view(MOVING, 1, 0, step)[:, 2] for step in range(400)])
    assert set(shifts.ravel()) == set(range(-8, 9))
    assert abs(shifts.mean()) < 0.6


def test_nothing_moves_when_all_is_off() -> None:
    np.testing.assert_array_equal(draw_view(STILL_ONES, 7, 7, 7), STILL)
    assert margin(STILL_ONES, 160) == 0


@pytest.mark.parametrize(("side", "size"), [(40, 24), (41, 24), (40, 25), (24, 24)])
def test_the_still_view_is_the_middle_of_the_picture(side: int, size: int) -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (side, side, 3)).astype(np.float32)
    first = (side - size) // 2
    np.testing.assert_array_equal(
        seen(jnp.asarray(picture), STILL, size), picture[first : first + size, first : first + size]
    )
    shifted = STILL + np.asarray([[0, 0, 3], [0, 0, -5]], np.float32)
    np.testing.assert_array_equal(
        seen(jnp.asarray(picture), shifted, size), np.roll(picture, (-3, 5), (0, 1))[first:, first:][:size, :size]
    )


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_a_view_is_scipys_affine_transform(seed: int) -> None:
    picture = np.random.default_rng(seed).uniform(0, 255, (48, 48, 3)).astype(np.float32)
    view = draw_view(TransformsConfig(20, 0.3, 90), seed, 0, 0)
    size = 32
    matrix, middle = view[:, :2].astype(np.float64), (size - 1) / 2
    offset = view[:, 2] + 8 + middle - matrix @ [middle, middle]
    expected = np.stack(
        [
            ndimage.affine_transform(
                picture[..., colour].astype(np.float64), matrix, offset, (size, size), order=1, mode="grid-wrap"
            )
            for colour in range(3)
        ],
        -1,
    )
    np.testing.assert_allclose(seen(jnp.asarray(picture), view, size), expected, atol=0.05)


def test_noise_has_the_spectrum_of_photographs_and_is_grey_in_the_mean() -> None:
    side = 64
    pixels = np.asarray(pixels_of(jnp.asarray(100 * noise_spectrum(3, 1, side)), side))
    assert pixels.shape == (side, side, 3)
    assert 0 <= pixels.min() < pixels.max() <= 255
    faint = np.asarray(pixels_of(jnp.asarray(noise_spectrum(3, 1, side)), side)).astype(np.float64)
    assert abs(faint.mean() - 127.5) < 3
    power = np.abs(np.fft.rfft2(faint.mean(-1))) ** 2
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    bands = [power[(low <= frequency) & (frequency < 2 * low)].mean() for low in (0.03, 0.06, 0.12, 0.24)]
    for lower, higher in zip(bands, bands[1:], strict=False):
        assert 2 < lower / higher < 8, bands  # 4, but for chance
    # Brightness varies most, as in photographs.
    assert np.var(faint.mean(-1)) > 3 * np.var(faint - faint.mean(-1, keepdims=True))


def test_noise_is_drawn_from_seed_and_channel_alone() -> None:
    np.testing.assert_array_equal(noise_spectrum(2**62, 7, 32), noise_spectrum(2**62, 7, 32))
    drawn = [noise_spectrum(seed, channel, 32) for seed in (0, 1) for channel in (0, 1)]
    assert len({one.tobytes() for one in drawn}) == 4


# Who draws them


def test_a_picture_does_not_depend_on_its_neighbours_or_on_the_number_of_workers(googlenet: Loaded) -> None:
    drawing = recipe(googlenet)
    alone = InlineExecutor([WorkerProcess()])
    several = InlineExecutor([WorkerProcess() for _ in range(3)])
    together = dict(draw_channels(several, drawing, range(7)))
    assert sorted(together) == list(range(7))
    for channel in (5, 2):
        ((number, picture),) = draw_channels(alone, drawing, [channel])
        assert number == channel
        np.testing.assert_array_equal(picture.pixels, together[channel].pixels)
        assert (picture.start, picture.end) == (together[channel].start, together[channel].end)
    assert len({picture.pixels.tobytes() for picture in together.values()}) == 7
    ((_, other),) = draw_channels(alone, replace(drawing, seed=1), [5])
    assert (other.pixels != together[5].pixels).any()


def test_an_accelerator_is_told_steps_ahead_and_draws_the_same(googlenet: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its way, forced onto the CPU: two pictures in one call, and steps dispatched before the last results are read."""
    drawing = recipe(googlenet, size=48, steps=4)

    def ascended(in_flight: int, channels: list[int]) -> list[np.ndarray]:
        monkeypatch.setattr(visualiser, "_IN_FLIGHT", in_flight)
        made, steps = drawing.make(), []
        monkeypatch.setattr(made, "_check", lambda *facts: steps.append(facts[-1]))
        state = made._stacked([made._method.start(channel) for channel in channels])
        after, steepest = made._ascend(channels, made._stacked([np.int32(channel) for channel in channels]), state)
        assert (steepest > 0).all()
        assert steps == [0, 1, 2, 3]
        count = len(channels)
        return [np.asarray(made._pixels(made._entry(after, number, count))) for number in range(count)]

    with tracing_for("gpu"):
        batch, singles = ascended(2, [12, 40]), [ascended(0, [channel])[0] for channel in (12, 40)]
    for picture, single in zip(batch, singles, strict=True):
        assert np.linalg.norm(picture - single) < 1e-5 * np.linalg.norm(single)


@pytest.mark.slow
def test_ray_workers_draw_the_same_and_one_that_is_killed_is_replaced(googlenet: Loaded) -> None:
    drawing = recipe(googlenet)
    expected = dict(draw_channels(InlineExecutor([WorkerProcess()]), drawing, range(8)))
    lines: list[str] = []
    farm = RayFarm(FarmConfig(workers=2), threads=cores(), store_bytes=300_000_000)
    try:
        with farm.lease() as executor:
            arrived = {}
            for channel, picture in draw_channels(executor, drawing, range(8), lines.append):
                assert channel not in arrived
                arrived[channel] = picture
                if len(arrived) == 2:
                    os.kill(executor.members[0].facts.pid, signal.SIGKILL)
            assert executor.workers == 2
    finally:
        farm.close()
    assert len(lines) >= 1
    assert "a worker was lost" in lines[0]
    assert sorted(arrived) == list(range(8))
    for channel, picture in arrived.items():
        np.testing.assert_array_equal(picture.pixels, expected[channel].pixels)


# The directory


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small atlas, for tests that do not change it."""
    directory = tmp_path_factory.mktemp("small atlas (50 %) #1") / "googlenet"
    written = made(directory, "channels=0-4,250,255")
    assert written == [directory / "index.html", directory / "sheet.png"]
    return directory


def test_an_atlas_keeps_every_channel_with_the_settings_that_made_it(atlas: Path) -> None:
    assert set(pictures(atlas)) == {f"channel-{channel}.png" for channel in (0, 1, 2, 3, 4, 250, 255)}
    for name in pictures(atlas):
        with Image.open(atlas / "channels" / name) as image:
            assert image.size == (64, 64)
    made_by = read_settings(atlas / "channels" / "channel-250.png")
    assert made_by is not None
    assert (made_by["layer"], made_by["channel"], made_by["steps"], made_by["seed"]) == (LAYER, 250, 4, 0)
    record = json.loads((atlas / "atlas.json").read_text())
    assert record["status"] == "finished"
    assert record["pictures"]["channels/channel-250.png"]["end"] > 0
    assert sorted(path.name for path in atlas.iterdir()) == [
        ".lock", "atlas.json", "channels", "index.html", "render.log", "sheet.png",
    ]  # fmt: skip


def test_what_is_there_is_not_drawn_again_and_what_is_missing_comes_out_the_same(tmp_path: Path) -> None:
    directory = tmp_path / "atlas"
    made(directory, "channels=0-3")
    before, sheet = pictures(directory), (directory / "sheet.png").read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in (directory / "channels").iterdir()}
    (directory / "channels" / "channel-2.png").unlink()
    made(directory, "channels=0-3")
    assert pictures(directory) == before
    assert (directory / "sheet.png").read_bytes() == sheet
    changed = [path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert changed == ["channel-2.png"]
    # Others join those that are there, as if all had been asked for at once.
    made(directory, "channels=5")
    assert set(pictures(directory)) == {*before, "channel-5.png"}
    assert "5 channels" in (directory / "index.html").read_text()


def test_ctrl_c_ends_tidily_and_the_same_command_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "atlas"
    job_words = [word for word in words(directory, "channels=0-7", "steps=24") if word != "quiet=true"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""}
    command = [sys.executable, "-m", "render", "atlas", *job_words]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list((directory / "channels").glob("channel-*.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    last = errors.strip().splitlines()[-1]
    drawn = re.search(r"render: interrupted; (\d) of 8 channels are drawn, and the same command goes on", last)
    assert drawn, errors
    assert "Traceback" not in errors
    there = pictures(directory)
    assert 1 <= len(there) == int(drawn[1]) < 8
    assert json.loads((directory / "atlas.json").read_text())["status"] == "interrupted"
    assert len(re.findall(r"INFO channel \d: activation", (directory / "render.log").read_text())) == len(there)
    make_atlas(load(ATLAS, "atlas", job_words))
    assert len(pictures(directory)) == 8
    assert {name: content for name, content in pictures(directory).items() if name in there} == there
    made(tmp_path / "at once", "channels=0-7", "steps=24")
    assert pictures(tmp_path / "at once") == pictures(directory)


def refused(directory: Path, *more: str) -> str:
    with pytest.raises(UserError) as caught:
        made(directory, *more)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_another_atlas_is_refused_naming_what_differs_and_replaced_when_asked_to(tmp_path: Path) -> None:
    directory = tmp_path / "atlas"
    made(directory, "channels=0-1")
    before = pictures(directory)
    message = refused(directory, "channels=0-1", "seed=5", "transforms.rotate=0")
    assert "holds another atlas (differs in seed, transforms.rotate)" in message
    assert "fresh=true" in message
    assert pictures(directory) == before
    (directory / "channels" / "mine.png").write_bytes(b"mine")
    made(directory, "channels=1", "seed=5", "fresh=true")
    assert set(pictures(directory)) == {"channel-1.png", "mine.png"}
    assert pictures(directory)["channel-1.png"] != before["channel-1.png"]


def test_nothing_of_somebody_elses_is_replaced(tmp_path: Path) -> None:
    directory = tmp_path / "atlas"
    made(directory, "channels=0")
    picture = directory / "channels" / "channel-0.png"
    picture.write_bytes(b"painted over")
    assert "channel-0.png is not as the atlas left it" in refused(directory, "channels=0", "fresh=true")
    assert picture.read_bytes() == b"painted over"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "sheet-2.png").write_bytes(b"mine")
    assert "holds a sheet-2.png that no atlas made" in refused(foreign, "channels=0", "fresh=true")
    assert [path.name for path in foreign.iterdir()] == ["sheet-2.png"]
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(tmp_path / "file")


# What is asked for


def test_the_config_documents_every_key_with_its_default() -> None:
    assert root_configs(ATLAS) == ["atlas", "classes"]
    assert "atlas" not in root_configs()
    assert load(ATLAS, "atlas", []) == AtlasConfig()
    path = ROOT / "conf" / "atlas.yaml"
    lines = path.read_text().splitlines()
    written = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(written, dict)
    written.pop("defaults")

    def leaves(value: Any, prefix: str = "") -> set[str]:
        if not isinstance(value, dict) or (prefix and not value):
            return {prefix[:-1]}
        return {leaf for key, inner in value.items() for leaf in leaves(inner, f"{prefix}{key}.")}

    assert leaves(written) == {key for key in schema_keys(ATLAS) if not key.startswith("model.")}
    assert all(
        " # " in line
        for line in lines
        if re.match(r"\s*\w+:", line) and not re.match(r"(defaults|farm|output|\s+worker):", line)
    )
    assert any("make atlas" in line for line in lines[:8])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("0-3", (0, 1, 2, 3)),
        ("12", (12,)),
        (12, (12,)),
        ("3,12,40-42", (3, 12, 40, 41, 42)),
        ("3+12", (3, 12)),
        ("[5-6, 2]", (2, 5, 6)),
        (["5-6", 2, 6], (2, 5, 6)),
        ("63-63", (63,)),
        (None, tuple(range(64))),
    ],
)
def test_channels_are_ranges(written: Any, expected: tuple[int, ...]) -> None:
    assert chosen_channels(written, "layer", 64) == expected


@given(st.sets(st.integers(0, 63), min_size=1))
def test_ranges_are_read_as_they_are_written(channels: set[int]) -> None:
    text = ranges_text(sorted(channels))
    assert chosen_channels(text, "layer", 64) == tuple(sorted(channels))
    assert chosen_channels(ranges_text(range(64)), "layer", 64) == tuple(range(64))


def test_any_key_can_be_set_from_the_command_line() -> None:
    config = load(
        ATLAS, "atlas", ["model=inception_v3", "layer=mixed4", "channels=3,12,40-47", "farm.worker.threads=1", "size=96"]
    )
    assert (config.model.name, config.layer, config.channels) == ("inception_v3", "mixed4", "3,12,40-47")
    assert (config.farm.worker.threads, config.size) == (1, 96)
    assert config.title == "inception_v3-mixed4"
    assert split_arguments(["atlas", "layer=mixed4"]) == ("atlas", "atlas", ["layer=mixed4"])
    assert split_arguments(["atlas", "conf=mine.yaml"]) == ("atlas", "mine.yaml", [])
    assert split_arguments(["plan"])[1] == "preview"


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["layer=inception_4"], ["googlenet has no layer 'inception_4'", "did you mean inception_4"]),
        (["layer=mixed4"], ["googlenet has no layer 'mixed4'"]),
        (["model=inception_v3", "layer=inception_4c"], ["inception_v3 has no layer 'inception_4c'"]),
        (["channels=0-256"], ["inception_3a has channels 0 to 255, not 256"]),
        (["channels=63-0"], ["63-0 runs backwards", "0-63"]),
        (["channels="], ["'' is empty"]),
        (["channels=[]"], ["'' is empty"]),
        (["channels=0-3,"], ["'' is empty"]),
        (["channels=cats"], ["'cats' is not a range"]),
        (["channels=-3"], ["'-3' is not a range"]),
        (["layer=null", "channels=0-3"], ["of which layer?"]),
        (["layers=[inception_3a]"], ["drop one of them"]),
        (["layer=inception_4c", "size=8"], ["size=8: inception_4c", "needs at least"]),
        (["size=0"], ["size=0: must be from 1"]),
        (["steps=0"], ["steps=0: must be from 1"]),
        (["rate=-1"], ["rate=-1.0: must be above 0"]),
        (["rate=nan"], ["rate=nan: must be above 0"]),
        (["transforms.jitter=-1"], ["transforms.jitter=-1: must be 0 (off) or more"]),
        (["transforms.scale=-0.1"], ["transforms.scale=-0.1: must be from 0"]),
        (["transforms.scale=1"], ["transforms.scale=1.0: must be from 0"]),
        (["transforms.rotate=-5"], ["transforms.rotate=-5.0: must be from 0"]),
        (["seed=-1"], ["seed=-1: must be from 0"]),
        (["output.columns=0"], ["output.columns=0: must be null or"]),
        (["farm.workers=0"], ["farm.workers=0"]),
        (["name=a/b"], ["name=a/b: must be a plain file name"]),
        (["chanels=0-3"], ["unknown config key 'chanels': did you mean 'channels'?"]),
        (["jitter=3"], ["did you mean 'transforms.jitter'?"]),
        (["objective.terms=[mixed4]"], ["unknown config key 'objective.terms'"]),
        (["model=alexnet"], ["there is no model 'alexnet'"]),
        (["layer=null", "layers=[]"], ["layers=[]: is empty"]),
        (["layer=null", "layers=[inception_3a,inception_3a]"], ["names a layer twice"]),
        (["layer=null", "layers=[nothing]"], ["googlenet has no layer 'nothing'"]),
        (["layer=null", "image=gone.jpg"], ["'gone.jpg' does not exist"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(more: list[str], parts: list[str], tmp_path: Path) -> None:
    message = refused(tmp_path / "atlas", *more)
    for part in parts:
        assert part in message, message
    assert not (tmp_path / "atlas").exists()


def test_the_command_refuses_with_code_2(command: Any, tmp_path: Path) -> None:
    command("atlas", "model=googlenet", "layer=inception_4z").refused("no layer 'inception_4z'", "inception_4")
    command("atlas", "conf=preview").refused("there is no config 'preview'", "there are atlas, classes")
    assert list(tmp_path.iterdir()) == []


# The sheet


@settings(max_examples=200)
@given(
    count=st.integers(1, 1500),
    tile=st.tuples(st.integers(8, 900), st.integers(8, 900)),
    columns=st.none() | st.integers(1, 40),
)
def test_every_picture_has_its_own_place_on_some_sheet(count: int, tile: tuple[int, int], columns: int | None) -> None:
    layouts = sheet_layouts(count, tile, columns)
    assert sum(on_it for on_it, _ in layouts) == count
    for on_it, layout in layouts:
        height, width = layout.size
        assert on_it <= layout.rows * layout.columns
        assert on_it > (layout.rows - 1) * layout.columns
        assert layout.columns == min(columns or layout.columns, count)
        assert layout.rows == 1 or 3 * height * width <= sheets.LARGEST_SHEET
        places = [layout.corner(number) for number in range(on_it)]
        assert len(set(places)) == on_it
        for row, column in places:
            assert layout.head < row <= height - tile[0] - layout.font
            assert layout.margin <= column <= width - layout.margin - tile[1]
        # Far enough apart that neither pictures nor the names below them meet.
        assert layout.pitch[0] >= tile[0] + 1.7 * layout.font
        assert layout.pitch[1] > tile[1]


@pytest.mark.parametrize("largest", [64_000_000, 400_000])
def test_every_channel_has_its_picture_and_its_name_on_the_sheets(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "LARGEST_SHEET", largest)
    random = np.random.default_rng(0)
    tiles = [random.integers(0, 256, (40, 48, 3), np.uint8) for _ in range(50)]
    drawn = list(draw_sheets("a layer", "how", [Cell(str(number)) for number in range(50)], tiles.__getitem__))
    layouts = sheet_layouts(50, (40, 48))
    assert len(drawn) == len(layouts)
    assert (len(drawn) > 1) == (largest < 64_000_000)
    number = 0
    labels = set()
    for sheet, (on_it, layout) in zip(drawn, layouts, strict=True):
        assert sheet.shape[:2] == layout.size
        assert (sheet[layout.margin : layout.margin + layout.title_font] != sheet[0, 0]).any(), "a title"
        for place in range(on_it):
            row, column = layout.corner(place)
            np.testing.assert_array_equal(sheet[row : row + 40, column : column + 48], tiles[number])
            label = sheet[row + 40 : row + layout.pitch[0] - layout.gap, column : column + 48]
            assert (label > 150).any()
            labels.add(label.tobytes())
            number += 1
    assert number == 50
    assert len(labels) == 50, "each its own"


def test_a_sheet_that_was_one_and_is_two_leaves_no_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "atlas"
    made(directory, "channels=0-3", "output.columns=1")
    monkeypatch.setattr(sheets, "LARGEST_SHEET", 330_000)
    assert made(directory, "channels=0-3", "output.columns=1")[1:] == [directory / "sheet-1.png", directory / "sheet-2.png"]
    assert sorted(path.name for path in directory.glob("sheet*")) == ["sheet-1.png", "sheet-2.png"]


def test_names_are_as_large_as_pictures_allow() -> None:
    fonts = [SheetLayout(1, 1, (side, side)).font for side in (32, 112, 160, 512)]
    assert fonts == sorted(fonts)
    assert 11 <= fonts[0] < fonts[-1] <= 28


# The page


def test_nothing_in_the_page_becomes_markup() -> None:
    nasty = "</script><b>\"&'{{cells}}"
    entry = Entry("a-1", nasty, nasty, "channels/a b#1.png", nasty, ((nasty, nasty),))
    text = page(nasty, "channels", (64, 64), [entry], [(nasty, nasty)], nasty)
    assert "<b>" not in text
    assert text.count("</script>") == 2
    assert 'src="channels/a%20b%231.png"' in text


def test_the_page_asks_for_nothing_from_elsewhere(atlas: Path) -> None:
    text = (atlas / "index.html").read_text()
    assert not re.findall(r"https?://", text)
    sources = re.findall(r'src="([^"]+)"', text)
    assert sources == [f"channels/channel-{channel}.png" for channel in (0, 1, 2, 3, 4, 250, 255)]
    assert len(re.findall(r'alt="inception_3a, channel \d+"', text)) == 7


@pytest.fixture
def shown(chromium: browser.Browser, atlas: Path) -> Iterator[browser.Page]:
    page = chromium.page(1000, 720)
    page.open((atlas / "index.html").as_uri())
    yield page
    assert page.complaints == []
    page.close()


def large(shown: browser.Page) -> str:
    """Return the title of the picture that is shown large; empty for none."""
    return shown.run("document.querySelector('#large').open ? document.querySelector('#large-title').textContent : ''")


def screenshot(page: browser.Page, name: str) -> None:
    if directory := os.environ.get("RENDER_SCREENSHOTS"):
        page.screenshot(Path(directory) / f"{name}.png")


def test_every_picture_of_the_page_loads(shown: browser.Page) -> None:
    shown.until("[...document.querySelectorAll('.cell img')].every((image) => image.complete && image.naturalWidth === 64)")
    screenshot(shown, "atlas")
    assert shown.run("document.querySelectorAll('.cell img').length") == 7
    assert shown.run("document.querySelector('#count').textContent") == "7 channels"


def test_a_picture_is_enlarged_with_its_link_and_its_command(shown: browser.Page, atlas: Path) -> None:
    shown.click("#channel-250")
    shown.until("document.querySelector('#large').open")
    assert large(shown) == "inception_3a, channel 250"
    assert shown.run("location.hash") == "#channel-250"
    shown.until("document.querySelector('#large-image').naturalWidth === 64")
    assert shown.run("document.querySelector('#large-image').alt") == "inception_3a, channel 250"
    screenshot(shown, "atlas-large")
    command = shown.run("document.querySelector('#commands pre').textContent")
    assert command == (
        f"make render model=googlenet model.weights={GOOGLENET_WEIGHTS} 'objective.terms=[inception_3a:250]'"
    )
    shown.click("#commands button.copy")
    shown.until("/Copied|Selected/.test(document.querySelector('#commands button.copy').textContent)")
    assert shown.run("getSelection().toString()") in ("", command)
    shown.do("getSelection().removeAllRanges()")
    shown.key("ArrowRight")
    assert large(shown) == "inception_3a, channel 255"
    assert shown.run("location.hash") == "#channel-255"
    shown.click("#next")
    assert large(shown) == "inception_3a, channel 0"
    shown.click("#close")
    shown.until("!document.querySelector('#large').open && location.hash === ''")
    assert shown.run("document.activeElement.id") == "channel-0"
    assert "make atlas model=googlenet" in shown.run("document.querySelector('#made').textContent")
    assert f"layer={LAYER} size=64 steps=4 channels=0-4,250,255" in shown.run("document.querySelector('#made').textContent")


def test_a_deep_link_opens_its_picture(shown: browser.Page, atlas: Path) -> None:
    shown.open((atlas / "index.html").as_uri() + "?again#channel-3")
    shown.until("document.querySelector('#large').open")
    assert large(shown) == "inception_3a, channel 3"
    shown.do("location.hash = '#channel-250'")
    shown.until("document.querySelector('#large-title').textContent.endsWith('250')")
    shown.do("location.hash = '#channel-17'")
    shown.until("!document.querySelector('#large').open")


def test_the_filter_leaves_what_is_asked_for(shown: browser.Page) -> None:
    def left(text: str) -> list[str]:
        shown.do(
            "(document.querySelector('#filter').value = "
            + json.dumps(text)
            + ", document.querySelector('#filter').dispatchEvent(new Event('input')))"
        )
        return shown.run("[...document.querySelectorAll('li:not([hidden]) .cell')].map((cell) => cell.id.slice(8))")

    assert left("25") == ["250", "255"]
    assert left("2-4, 250") == ["2", "3", "4", "250"]
    assert shown.run("document.querySelector('#count').textContent") == "4 of 7 channels"
    assert left("99") == []
    assert shown.run("!document.querySelector('#none').hidden")
    assert len(left("")) == 7
    assert shown.run("document.querySelector('#count').textContent") == "7 channels"


def test_the_page_is_reached_by_keys_alone(shown: browser.Page) -> None:
    shown.key("/")
    assert shown.run("document.activeElement.id") == "filter"
    for letter in "25":
        shown.key(letter)
    shown.ask("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13)
    shown.until("document.querySelector('#large').open")
    assert large(shown) == "inception_3a, channel 250"
    shown.ask("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape", windowsVirtualKeyCode=27)
    shown.until("!document.querySelector('#large').open && location.hash === ''")
    assert shown.run("document.activeElement.id") == "channel-250"
    shown.key("ArrowRight")
    assert shown.run("document.activeElement.id") == "channel-255"
    shown.ask("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    shown.until("document.querySelector('#large').open")
    assert large(shown) == "inception_3a, channel 255"
    names = shown.run(
        "[...document.querySelectorAll('button, input, a')]"
        ".filter((one) => !(one.textContent.trim() || one.ariaLabel)).length"
    )
    assert names == 0


def test_the_page_fits_a_telephone(shown: browser.Page) -> None:
    shown.resize(390, 800)
    assert shown.run("document.documentElement.scrollWidth") <= 390
    screenshot(shown, "atlas-narrow")


# The ladder


LADDER = (
    "layer=null", "layers=[inception_3a,conv1/7x7_s2]", "output.width=96", "octaves.count=1", "octaves.steps=1",
)  # fmt: skip


def test_the_ladder_dreams_every_layer_once(tmp_path: Path) -> None:
    directory = tmp_path / "ladder"
    assert made(directory, *LADDER) == [directory / "index.html", directory / "sheet.png"]
    paths = [
        directory / "rungs" / name
        for name in ("source.png", "conv1_7x7_s2/conv1_7x7_s2.png", "inception_3a/inception_3a.png")
    ]
    tiles = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    assert len({tile.tobytes() for tile in tiles}) == 3
    sheet = np.asarray(Image.open(directory / "sheet.png"))
    ((count, layout),) = sheet_layouts(3, tiles[0].shape[:2])
    assert count == 3
    for number, tile in enumerate(tiles):
        row, column = layout.corner(number)
        np.testing.assert_array_equal(sheet[row : row + tile.shape[0], column : column + tile.shape[1]], tile)
    text = (directory / "index.html").read_text()
    assert re.findall(r'id="([^"]+)" href', text) == ["source", "conv1-7x7_s2", "inception_3a"]
    assert "layers=[conv1/7x7_s2,inception_3a]" in text
    assert "objective.terms=[inception_3a]" in text
    # Nothing is dreamed twice.
    stamps = {path: path.stat().st_mtime_ns for path in paths}
    made(directory, *LADDER)
    assert {path: path.stat().st_mtime_ns for path in paths} == stamps
    assert "octaves.steps" in refused(directory, *LADDER, "octaves.steps=2")


def test_a_ladder_that_does_not_fit_is_refused_before_anything_is_dreamed(tmp_path: Path) -> None:
    assert "memory" in refused(tmp_path / "ladder", *LADDER, "farm.worker.memory_gb=0.01")
    assert not (tmp_path / "ladder").exists()


def test_a_rung_is_the_dream_that_its_command_makes(tmp_path: Path) -> None:
    """The page's command has every setting in which the rung differs from an ordinary render."""
    directory = tmp_path / "ladder"
    made(directory, *LADDER)
    data = re.search(r'id="data">(.*?)</script>', (directory / "index.html").read_text(), re.DOTALL)
    assert data
    entry = json.loads(data[1])[2]
    typed = shlex.split(entry["commands"][0][1])
    assert typed[:2] == ["make", "render"]
    expected = asdict(load_config("preview", typed[2:]))
    dreamed = json.loads((directory / "rungs" / "inception_3a" / "run.json").read_text())["config"]
    for key in ("seed", "image", "model", "objective", "octaves", "step_size", "tiles", "boundary"):
        assert expected[key] == dreamed[key], key
    assert expected["output"]["width"] == dreamed["output"]["width"] == 96


def test_every_block_is_a_rung() -> None:
    layers = ladder_layers(GOOGLENET, None)
    assert layers[0] == "conv1/7x7_s2"
    assert [layer for layer in layers if layer.startswith("inception")] == [
        f"inception_{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    ]
    assert ladder_layers(GOOGLENET, ["inception_4c", "inception_3a"]) == ["inception_3a", "inception_4c"]
