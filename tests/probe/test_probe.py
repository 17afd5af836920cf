"""The class probe: networks recognise what was dreamed; answers are printed and recorded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from render.__main__ import make_overrides, split_arguments
from render.commands.probe import probe_command, take_class
from render.config.compose import load_config
from render.dreaming.resample import resample_array
from render.errors import UserError, WorkersLost
from render.farm.farms import InlineFarm
from render.geometry.geometry import Rect
from render.job.job import draft, prepared, render
from render.networks.classification import sight as network_sight
from render.networks.labels import class_names, find_class
from render.networks.network import Network
from render.networks.weights import Loaded
from render.probe import class_probe, sight
from render.system.machine import cores
from tests.conftest import GOOGLENET_WEIGHTS, INLINE, ROOT, needs
from tests.support.farm_job import stored

CLASSES = ("dumbbell", "goldfish", "banana", "monarch", "volcano")
#: As shipped, but in fewer steps, for GoogLeNet also smaller and in larger ones: enough to be seen as the class.
FEW = {
    "googlenet": (
        "output.width=224", "output.height=224", "octaves.count=1", "octaves.steps=14", "step_size=8",
        "conditioning.total_variation=0.1",
    ),
    "inception_v3_slim": ("octaves.steps=45",),
}  # fmt: skip
#: A probe small enough for a test of what is around it: it dreams a shallow layer, and asks for a class all the same.
SHALLOW = (
    "model=googlenet", "output.width=64", "output.height=64", "octaves.count=1", "octaves.steps=1",
    "conditioning.laplacian=0", "objective.terms=[conv1/7x7_s2]", "output.dir=run", INLINE,
)  # fmt: skip


def weights_of(model: str) -> tuple[str, ...]:
    """Return the words that a command needs besides the model's name."""
    return (f"model.weights={needs(GOOGLENET_WEIGHTS)}",) if model == "googlenet" else ()


@pytest.fixture(scope="module")
def farm() -> Iterator[InlineFarm]:
    """A farm for all probes, so that kernels are compiled once."""
    inline_farm = InlineFarm(1, cores())
    yield inline_farm
    inline_farm.close()


def named(names: dict) -> list[str]:
    return [guess["name"] for guess in names["top"]]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["googlenet", "inception_v3_slim"])
def test_a_network_sees_the_class_that_it_dreamed_and_did_not_before(
    model: str, loaded_by_name: Callable[[str], Loaded], farm: InlineFarm, tmp_path: Path
) -> None:
    """Five classes, classified here again from the picture file, without canvas and probe."""
    loaded = loaded_by_name("slim" if model == "inception_v3_slim" else model)
    network, names = Network(loaded.architecture, loaded.parameters), class_names(model)
    side = {"googlenet": 224, "inception_v3_slim": 299}[model]
    seen = {}
    for name in CLASSES:
        words = [f"model={model}", *weights_of(model), *FEW[model], f"output.dir={tmp_path / name}", "quiet=true"]
        config, target = class_probe.aim(load_config("probe", words), name)
        with prepared(draft(config), farm) as job:
            (picture,) = render(job, lambda job=job, target=target: {"probe": class_probe.answer(job, target)})
        record = json.loads((tmp_path / name / "run.json").read_text())["probe"]
        assert record["asked"] == {"index": target.index, "name": target.name}
        assert target.name not in named(record["before"])
        assert record["before"]["rank"] > 5
        assert record["after"]["rank"] == 1
        with Image.open(picture) as image:
            pixels = np.clip(resample_array(np.asarray(image, np.float32), (side, side)), 0, 255)
        scores = np.asarray(network.logits(jnp.asarray(pixels)))
        seen[name] = names[int(scores.argmax())][0]
    assert seen == {name: name for name in CLASSES}


def test_classifying_is_what_the_whole_network_says(googlenet: Loaded, farm: InlineFarm, tmp_path: Path) -> None:
    """Also if the job's kernels end at a shallow layer, and if the first worker is lost meanwhile."""
    words = [*SHALLOW, *weights_of("googlenet"), f"output.dir={tmp_path / 'run'}", "quiet=true", "octaves.steps=0"]
    config, target = class_probe.aim(load_config("probe", words), "velvet")
    calls, mended = [], []
    with prepared(draft(config), farm) as job:
        executor = job.executor
        original = executor.call

        def call(worker: int, method: str, *arguments: object) -> object:
            calls.append(method)
            if method == "class_scores" and calls.count(method) == 1:
                raise WorkersLost("gone")
            return original(worker, method, *arguments)

        executor.call = call
        executor.mend = lambda: mended.append(True)
        render(job, lambda: {"probe": class_probe.answer(job, target)})
    record = json.loads((tmp_path / "run" / "run.json").read_text())["probe"]
    assert mended == [True]
    # Nothing was dreamed: what is seen is the noise, both times.
    assert record["before"] == record["after"]
    pixels = np.clip(resample_array(stored(tmp_path / "run"), (224, 224)), 0, 255)
    scores = np.asarray(Network(googlenet.architecture, googlenet.parameters).logits(jnp.asarray(pixels)), np.float64)
    shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    best = np.argsort(-shares)[:5]
    assert [guess["index"] for guess in record["after"]["top"]] == list(best)
    np.testing.assert_allclose([guess["probability"] for guess in record["after"]["top"]], shares[best], rtol=1e-3)
    np.testing.assert_allclose(record["after"]["probability"], shares[target.index], rtol=1e-3)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 30), st.integers(0, 999))
def test_the_top_five_are_in_order_and_the_asked_class_has_its_rank(seed: int, spread: float, target: int) -> None:
    names = tuple((f"class {index}", "another name") for index in range(1000))
    scores = np.random.default_rng(seed).normal(0, spread, 1000).astype(np.float32)
    seen = network_sight(scores, names, target)
    shares = [guess.probability for guess in seen.top]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 5
    assert 0 < sum(shares) <= 1 + 1e-12
    assert seen.rank == 1 + int((scores > scores[target]).sum())
    if seen.rank <= 5:
        assert (seen.top[seen.rank - 1].index, seen.top[seen.rank - 1].probability) == (target, seen.probability)
    else:
        assert seen.probability <= shares[-1]


@settings(max_examples=15)
@given(st.integers(20, 400), st.integers(20, 400), st.integers(16, 80))
def test_what_is_shown_is_the_whole_picture_with_its_aspect(height: int, width: int, side: int) -> None:
    """Reading it in small parts gives the same as resampling it whole."""
    pixels = np.random.default_rng(height).uniform(0, 255, (height, width, 3)).astype(np.float32)

    def read(rect: Rect) -> np.ndarray:
        return pixels[slice(*rect.rows), slice(*rect.columns)]

    shown = sight.view(read, (height, width), side)
    assert min(shown.shape[:2]) == side
    assert abs(max(shown.shape[:2]) - side * max(height, width) / min(height, width)) <= 0.5
    np.testing.assert_array_equal(shown, np.clip(resample_array(pixels, shown.shape[:2]), 0, 255))


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of the table, row by row."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if re.match(r"\s*\d  ", line)]


def test_the_command_prints_the_table_records_it_and_repeats_it(command, tmp_path: Path) -> None:
    words = ("probe", "class=Great_White shark", *SHALLOW, *weights_of("googlenet"))
    first = command(*words)
    assert first.code == 0, first.err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    answer = record["probe"]
    assert answer["asked"] == {"index": 2, "name": "great white shark"}
    # A row for each place: the guesses before and after, side by side.
    rows = table_rows(first.out)
    assert [row[0] for row in rows] == list("12345")
    assert [row[1] for row in rows] == named(answer["before"])
    assert [row[3] for row in rows] == named(answer["after"])
    assert f"rank {answer['before']['rank']}" in first.out
    assert "great white shark (2): before" in first.out
    assert str(Path("run") / "probe.png") in first.out.splitlines()
    again = command(*words)
    assert again.code == 0, again.err
    assert "already finished" in again.out
    assert table_rows(again.out) == rows
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == record

    # The same dream, asked for another class: classified again, but not dreamed again.
    other = command("probe", "class=5", *words[2:])
    assert other.code == 0, other.err
    later = json.loads((tmp_path / "run" / "run.json").read_text())
    assert later["probe"]["asked"] == {"index": 5, "name": "electric ray"}
    assert later["probe"]["after"]["top"] == answer["after"]["top"]
    assert (later["octaves"], later["pictures"]) == (record["octaves"], record["pictures"])
    assert (tmp_path / "run" / "render.log").read_text().count("mean|g|") == 1

    quiet = command("probe", "class=6", *words[2:], "quiet=true")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_a_probe_with_ray_keeps_jax_out_of_the_driver(tmp_path: Path) -> None:
    """The worker's process has the network, and classifies."""
    words = ["class=goldfish", *SHALLOW, *weights_of("googlenet"), "farm.executor=ray", "quiet=true"]
    script = (
        "import sys; from render.__main__ import main; code = main(['probe', *sys.argv[1:]]); "
        "print(code, *(name for name in ('jax', 'flax') if name in sys.modules))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.stdout.split() == ["0"], process.stdout + process.stderr
    answer = json.loads((tmp_path / "run" / "run.json").read_text())["probe"]
    assert [len(answer[when]["top"]) for when in ("before", "after")] == [5, 5]


def test_a_class_is_dreamed_unless_the_config_says_what_else() -> None:
    config, target = class_probe.aim(load_config("probe", ["model=inception_v3_slim"]), "goldfish")
    assert (target.index, target.name) == (2, "goldfish")
    assert config.objective.terms == [{"class": 2}]
    configured = load_config("probe", ["model=googlenet", "objective.terms=[{class: 1},{class: 0, weight: -0.2}]"])
    config, target = class_probe.aim(configured, "goldfish")
    assert target.index == 1
    assert config.objective.terms == [{"class": 1}, {"class": 0, "weight": -0.2}]


def test_class_is_the_commands_own_word() -> None:
    assert split_arguments(["probe", "class=a", "seed=3"]) == ("probe", "probe", ["class=a", "seed=3"])
    assert split_arguments(["probe", "conf=noise"]) == ("probe", "noise", [])
    assert split_arguments([]) == ("render", "preview", [])
    assert take_class(["seed=3", "class=a", "class= b, c ", "name=x"]) == ("b, c", ["seed=3", "name=x"])


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("name", ["great white shark", "jack-o'-lantern", "carbonara", "ice cream, icecream", "$(x) \\"])
def test_a_name_with_blanks_comes_through_make(name: str, tmp_path: Path) -> None:
    """Runs the project's Makefile with a stub of the interpreter that prints its words."""
    interpreter = tmp_path / "venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text('#!/bin/sh\nprintf "%s\\n" "$*" "$RENDER_OVERRIDES"\n')
    interpreter.chmod(0o755)
    (tmp_path / "venv" / "installed").touch()
    installed = str(tmp_path / "venv" / "installed")
    process = subprocess.run(
        ["make", "-o", installed, f"VENV={tmp_path / 'venv'}", "probe", f"class={name}", "model=googlenet"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key not in ("RENDER_OVERRIDES", "MAKEFLAGS", "MAKELEVEL")},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    call, overrides = process.stdout.splitlines()
    assert call == "-m render probe"
    words = make_overrides(overrides)
    assert sorted(words) == sorted([f"class={name}", "model=googlenet"])
    assert take_class(words) == (name.strip(), ["model=googlenet"])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["class=NAME", "dumbbell"]),
        (["class="], ["class=NAME"]),
        (["class=dumbell"], ["'dumbell'", "did you mean dumbbell"]),
        (["class=crane"], ["'crane'", "crane (134)", "crane (517)"]),
        (["class=1001", "model=inception_v3_slim"], ["no class 1001", "0 to 1000"]),
        (["class=goldfish", "model=inception_v3"], ["no classifier", "model=googlenet", "model=inception_v3_slim"]),
        (["class=goldfish", "klass=2"], ["klass"]),
        (["class=goldfish", "octaves.stepz=2"], ["octaves.steps"]),
        (["goldfish"], ["class=NAME"]),
    ],
)
def test_what_cannot_be_probed_is_one_line(words: list[str], parts: list[str]) -> None:
    model_words = [] if any(word.startswith("model=") for word in words) else ["model=googlenet"]
    with pytest.raises(UserError) as caught:
        probe_command("probe", [*model_words, *words])
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    for word in parts:
        assert word in message


def test_the_command_refuses_with_exit_code_2(command) -> None:
    command("probe", "model=googlenet").refused("class=NAME")


def test_weights_without_the_classifier_are_refused_before_anything_is_dreamed(
    googlenet: Loaded, command, tmp_path: Path
) -> None:
    parameters = {name: array for name, array in googlenet.parameters.items() if not name.startswith("loss3/")}
    np.savez(tmp_path / "headless.npz", **parameters)
    command("probe", "class=goldfish", *SHALLOW, "model.weights=headless.npz").refused("headless.npz", "loss3/classifier")
    assert not (tmp_path / "run" / "run.json").exists()


def test_class_numbers_agree_with_the_table() -> None:
    """For the five probed classes, with both networks."""
    for model, first in (("googlenet", 0), ("inception_v3_slim", 1)):
        assert [find_class(name, model).index - first for name in CLASSES] == [543, 1, 954, 323, 980]
