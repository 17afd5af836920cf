"""The Python API: what a notebook does, in this very process and in one that has used JAX and Hydra already."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hydra import initialize
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import render
from render.config.compose import load_config
from render.config.keywords import config_of
from render.errors import UserError
from render.networks.network import Network
from render.system import interrupts
from tests.conftest import INLINE, ROOT, refusal
from tests.support.farm_job import stored

#: As `tests.conftest.TINY`, in Python.
TINY = {"octaves": {"count": 1, "steps": 2}, "farm": {"executor": "inline"}, "quiet": True}


def test_a_dream_is_the_one_of_the_command_and_shows_itself(tmp_path: Path, command) -> None:
    result = render.dream("sample:chelsea", objective="mixed0", width=96, **TINY, **{"output.dir": tmp_path / "api"})
    words = ("image=sample:chelsea", "objective.terms=[mixed0]", "output.width=96", "octaves.count=1", "octaves.steps=2")
    assert command(*words, INLINE, "output.dir=cli", "quiet=true").code == 0
    np.testing.assert_array_equal(stored(tmp_path / "api"), stored(tmp_path / "cli"))
    assert result.directory == tmp_path / "api"
    assert result.picture.size == (96, 64)
    assert [len(steps) for steps in result.gradients] == [2]
    assert min(result.gradients[0]) > 0
    assert result.plan.final.shape == (64, 96)
    with Image.open(BytesIO(result._repr_png_())) as shown:
        assert shown.size == (96, 64)
    again = render.dream("sample:chelsea", objective="mixed0", width=96, **TINY, **{"output.dir": tmp_path / "api"})
    assert (again.paths, again.gradients) == (result.paths, result.gradients)


def test_workers_of_their_own_beside_a_jax_that_runs(tmp_path: Path) -> None:
    """As a notebook has it: JAX has computed, and two dreams follow each other."""
    program = (
        "import jax.numpy as jnp; jnp.ones(3).sum().block_until_ready()\n"
        "import render\n"
        "for seed in (1, 2):\n"
        "    done = render.dream('sample:chelsea', objective=-render.Objective('mixed0:3') + 'mixed0:5', width=96,\n"
        "                        octaves={'count': 1, 'steps': 1}, seed=seed, quiet=True)\n"
        "    print(done.paths[0], done.plan.final.steps)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert len(lines) == len(set(lines)) == 2
    assert all((tmp_path / line.split()[0]).is_file() for line in lines)


def test_a_plan_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned = render.plan("sample:hubble", objective="mixed4", width=3000)
    assert planned.final.shape[1] == 3000
    assert planned.memory_bytes > 0
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_has_its_points_and_a_sheet(tmp_path: Path) -> None:
    axes = {"step_size": [1, 2.5], "objective.terms": [["mixed0"], ["0.5*mixed0:3"]]}
    swept = render.sweep("sample:chelsea", axes=axes, **TINY, **{"output.width": 64, "sweep.dir": str(tmp_path / "night")})
    assert len(swept.points) == 4
    assert swept.failures == {}
    assert all((point.directory / "preview.png").is_file() for point in swept.points)
    assert swept._repr_png_()[:4] == b"\x89PNG"


def test_activations_are_those_of_the_network(inception_network: Network) -> None:
    seen = render.activations("sample:chelsea", "mixed0", width=120)
    assert seen.dtype == np.float32
    assert seen.shape[2] == 256
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    activations = render.activations(pixels, "mixed0")
    np.testing.assert_array_equal(activations, inception_network(pixels.astype(np.float32), ["mixed0"])["mixed0"])
    np.testing.assert_array_equal(activations, render.activations(Image.fromarray(pixels), "mixed0"))


def test_models_have_their_layers() -> None:
    layers = {layer.name: layer for layer in render.models()["googlenet"]}
    assert layers["inception_4c"].receptive_field == 299
    assert layers["inception_4c"].channels == 512


def test_objectives_add_multiply_and_turn_around() -> None:
    channel, mixture = render.Objective("mixed4:12"), render.Objective("0.5*mixed5", {"layer": "mixed3", "strongest": 5})
    assert (channel + mixture).terms == ("mixed4:12", "0.5*mixed5", {"layer": "mixed3", "strongest": 5})
    assert (2 * mixture).terms == ("1.0*mixed5", {"layer": "mixed3", "strongest": 5, "weight": 2.0})
    assert (-channel).terms == ("-1.0*mixed4:12",)
    assert (channel - mixture * 2).terms[1] == "-1.0*mixed5"
    assert ("mixed3" + channel).terms == ("mixed3", "mixed4:12")
    assert (1e-7 * channel).terms == ("1e-07*mixed4:12",)
    assert render.Objective.channel("mixed4", 12) == channel
    assert config_of("preview", {"objective.terms": list((1e-7 * channel).terms)}).objective.terms == ["1e-07*mixed4:12"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": "nowhere.jpg"}, ["nowhere.jpg", "does not exist"]),
        ({"objective": "mixed44"}, ["mixed44", "mixed4"]),
        ({"octave": {"count": 3}}, ["octave.count", "octaves.count"]),
        ({"width": -5}, ["output.width", "above 0"]),
        ({"width": "wide"}, ["output.width"]),
        ({"step_size": float("nan")}, ["step_size"]),
        ({"model": "alexnet"}, ["alexnet", "googlenet"]),
        ({"root": "postr"}, ["postr", "poster"]),
        ({"objective": 5}, ["objective"]),
        ({"octaves": 5}, ["octaves"]),
    ],
)
def test_bad_input_is_the_same_line_as_an_exception(arguments: dict[str, object], words: list[str]) -> None:
    message = refusal(lambda: render.plan(**{"image": "sample:chelsea", **arguments}))
    for word in words:
        assert word in message


def test_text_is_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    for text in ("${oc.env:SECRET}", "a,b", "[x", "'quoted'", "null", "${seed}"):
        assert config_of("preview", {"output.title": text, "image": text}).output.title == text


def test_nothing_of_the_callers_is_left_changed() -> None:
    before = signal.getsignal(signal.SIGINT)
    with initialize(version_base="1.3", config_path=None):
        theirs = GlobalHydra.instance().hydra
        render.plan("sample:chelsea", width=200)
        assert GlobalHydra.instance().hydra is theirs
    with pytest.raises(UserError):
        render.plan("sample:chelsea", width=-1)
    assert signal.getsignal(signal.SIGINT) is before
    assert not interrupts.is_stop_requested()
    assert load_config("preview", []).name == "preview"


def test_an_interrupt_saves_the_canvas_and_the_same_call_goes_on(tmp_path: Path) -> None:
    settings = {**TINY, "octaves": {"count": 1, "steps": 200}, "output.dir": tmp_path / "run"}

    def interrupt() -> None:
        log = tmp_path / "run" / "render.log"
        while not (log.exists() and "step 3:" in log.read_text()):
            threading.Event().wait(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt, match="goes on"):
        render.dream("sample:chelsea", objective="mixed0", width=96, **settings)
    assert len(render.dream("sample:chelsea", objective="mixed0", width=96, **settings).gradients[0]) == 200


def test_a_directory_of_many_files_is_no_picture(tmp_path: Path) -> None:
    where = {"output.dir": tmp_path, "output.format": "zarr"}
    result = render.dream("sample:chelsea", objective="mixed0", width=64, **TINY, **where)
    assert "output.format=png" in refusal(lambda: result.picture)


def test_what_the_readme_shows_runs(tmp_path: Path) -> None:
    """As one program, in the order of the page."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    (tmp_path / "page.py").write_text("if __name__ == '__main__':\n" + textwrap.indent("".join(blocks), "    "))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "cat.png").is_file()


def test_importing_it_waits_for_nothing() -> None:
    words = "import sys, render; print(sorted({'jax', 'ray', 'hydra', 'numpy'} & sys.modules.keys()))"
    process = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert process.stdout == "[]\n"
