"""One interpretation of the config: the resolved job has its values, and what lies below it never sees the config."""

from __future__ import annotations

import ast
import builtins
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import render
from render.config.compose import load_config
from render.farm.farms import chosen_executor
from render.job.dream import dream
from render.job.resolve import resolve
from tests.conftest import INLINE, ROOT

#: Packages that work with resolved values alone.
LOWER_PACKAGES = (
    "canvas", "dreaming", "export", "farm", "geometry", "networks", "pages", "planning", "preflight", "source", "storage",
    "system", "terminal",
)  # fmt: skip
SMALL = (
    "image=sample:chelsea",
    "output.width=64",
    "octaves.count=1",
    "octaves.steps=1",
    "objective.terms=[mixed0]",
    INLINE,
)


@pytest.mark.parametrize("package", LOWER_PACKAGES)
def test_packages_below_the_job_do_not_know_the_root_config(package: str) -> None:
    """Neither by name nor by way of the module that has it."""
    paths = sorted((ROOT / "render" / package).rglob("*.py"))
    assert paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert all(not alias.name.startswith("render.config.schema") for alias in node.names), path
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("render.config"):
                names = {alias.name for alias in node.names}
                assert not names & {"Config", "SweepJob", "AtlasConfig", "schema"}, path


def test_a_step_size_reaches_the_update_through_six_files() -> None:
    """From the YAML file; words in comments and in other features do not count."""
    trip = (
        "conf/job/default.yaml",
        "render/config/schema.py",
        "render/config/octave_settings.py",
        "render/planning/schedule.py",
        "render/dreaming/stage.py",
        "render/farm/worker/block_update.py",
    )
    assert all("step_size" in (ROOT / path).read_text() for path in trip)
    settings = resolve(load_config("preview", [*SMALL, "octaves.count=2", "step_size=[2,0.5]"])).schedule
    assert [stage.step_size for stage in settings.stages] == [2.0, 0.5]


def test_a_resolved_job_has_what_the_config_says(tmp_path: Path) -> None:
    words = ("name=cat", "seed=7", "checkpoint.every=5", "boundary.mode=wrap", "output.also=[tiff]", "quiet=true")
    job = resolve(load_config("preview", [*SMALL, *words, f"output.dir={tmp_path / 'run'}", f"farm.scratch={tmp_path}"]))
    assert (job.name, job.seed, job.image, job.checkpoint_interval) == ("cat", 7, "sample:chelsea", 5.0)
    assert (job.network.name, job.network.weights, job.network.precision) == ("inception_v3", None, "float32")
    assert [target.path for target in job.directory.targets] == [
        tmp_path / "run" / "cat.png",
        tmp_path / "run" / "cat.tif",
    ]
    assert job.scratch == tmp_path
    assert (job.quiet, job.shows_progress, job.workers) == (True, False, 1)
    request = job.plan_request
    assert (request.shape, request.boundary.mode, dict(request.files.copies)) == ((43, 64), "wrap", {"png": 0, "tiff": 0})
    assert not (tmp_path / "run").exists(), "nothing is written"


def test_a_finished_dream_is_found_and_its_pictures_are_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config("preview", [*SMALL, f"output.dir={tmp_path / 'run'}"])
    first = dream(config, summarize=False)
    assert capsys.readouterr().out == ""
    (picture,) = first.pictures
    assert isinstance(picture, Path)
    content = picture.read_bytes()
    picture.unlink()
    again = dream(config)
    assert (again.directory, again.pictures) == (first.directory, first.pictures)
    assert picture.read_bytes() == content
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["already finished (fresh=true dreams it again)", f"writing {picture}", str(picture)]


class _Cell:
    """Stands for `IPython.display`: the output of a notebook's cell."""

    def __init__(self) -> None:
        self.outputs: dict[str | None, list[dict[str, str]]] = {}

    def display(self, content: dict[str, str], *, raw: bool, display_id: str | None = None) -> None:
        assert raw
        self.outputs.setdefault(display_id, []).append(content)

    def update_display(self, content: dict[str, str], *, raw: bool, display_id: str) -> None:
        assert raw
        self.outputs[display_id].append(content)


def test_a_notebook_shows_a_bar_that_disappears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cell: Any = _Cell()
    module = ModuleType("IPython.display")
    module.__dict__.update(display=cell.display, update_display=cell.update_display)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(builtins, "get_ipython", type("ZMQInteractiveShell", (), {}), raising=False)
    monkeypatch.setattr("render.job.notebook_display._MIN_INTERVAL_S", 0.0)
    settings = {"octaves": {"count": 1, "steps": 2}, "farm": {"executor": "inline"}, "output.dir": tmp_path}
    render.dream("sample:chelsea", objective="mixed0", width=64, **settings)
    lines = [content["text/plain"] for content in cell.outputs.pop(None)]
    assert lines == [f"writing {tmp_path / 'preview.png'}"]
    (drawn,) = cell.outputs.values()
    texts = [content["text/plain"] for content in drawn]
    assert texts[0].startswith("0 % octave 1/1 64x43 step 0/2")
    assert any(text.startswith("100 % octave 1/1 64x43 step 2/2") for text in texts)
    assert all("<progress" in content["text/html"] for content in drawn[:-1])
    assert drawn[-1] == {"text/plain": "", "text/html": ""}
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "executor"),
    [
        ([], "inline"),
        (["farm.workers=1"], "inline"),
        (["farm.workers=2"], "ray"),
        (["farm.address=auto"], "ray"),
        (["farm.dashboard=true"], "ray"),
        (["farm.executor=ray"], "ray"),
        (["farm.executor=inline", "farm.workers=2"], "inline"),
        (["farm.worker.num_gpus=0"], "inline"),
        (["farm.worker.num_gpus=1"], "ray"),
        (["farm.worker.resources={TPU: 4}"], "ray"),
    ],
)
def test_one_worker_on_this_machines_cpus_needs_no_ray(words: list[str], executor: str) -> None:
    assert chosen_executor(load_config("preview", words).farm) == executor


def test_a_machine_with_a_gpu_takes_a_worker_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("render.farm.farms.has_nvidia_gpu", lambda: True)
    assert chosen_executor(load_config("preview", []).farm) == "ray"
    assert chosen_executor(load_config("preview", ["farm.worker.num_gpus=0"]).farm) == "inline"
