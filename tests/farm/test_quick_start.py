"""Start of Ray: a render is the same, and never fails, where Ray's private functions are missing, differ, or raise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ray._private import node, services, utils

from render.farm.ray import private_api
from render.farm.ray.private_api import draining_nodes, find_private, vital_processes
from render.farm.ray.quick_start import quick_start
from tests.conftest import INLINE, ROOT
from tests.support.farm_job import stored

#: One tile and one step, on Ray.
TINY_ON_RAY = (
    "image=sample:chelsea",
    "output.width=96",
    "octaves.count=1",
    "octaves.steps=1",
    "objective.terms=[mixed0]",
    "farm.executor=ray",
)


@pytest.fixture(scope="module")
def expected_canvas(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The tiny job's canvas, without Ray."""
    directory = tmp_path_factory.mktemp("inline")
    run_render(directory, "render", *TINY_ON_RAY[:-1], INLINE)
    return stored(directory / "run")


def run_render(directory: Path, module: str, *words: str) -> str:
    """Run a command that must succeed in a directory; return its output."""
    finished = subprocess.run(
        [sys.executable, "-m", module, *words, "output.dir=run"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    assert json.loads((directory / "run" / "run.json").read_text())["status"] == "finished"
    return finished.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "unusable"),
    [
        ("unpatched", []),
        (
            "renamed",
            [
                "node.Node.start_api_server", "node.Node.start_monitor", "node.Node.start_log_monitor",
                "utils.get_dashboard_dependency_error", "services.get_node", "worker._global_node",
                "worker.print_to_stdstream",
            ],
        ),
        (
            "extended",
            [
                "node.Node.start_api_server", "node.Node.start_monitor", "node.Node.start_log_monitor",
                "utils.get_dashboard_dependency_error", "services.get_node", "worker.print_to_stdstream",
            ],
        ),
        (
            "failing",
            [
                "state.GlobalState", "worker._global_node.all_processes['raylet']",
                "worker._global_node.all_processes['gcs_server']",
            ],
        ),
        ("demanding", []),
    ],
)  # fmt: skip
def test_another_ray_makes_the_same_canvas(
    kind: str, unusable: list[str], expected_canvas: np.ndarray, tmp_path: Path
) -> None:
    output = run_render(tmp_path, "tests.support.other_ray", kind, *TINY_ON_RAY)
    np.testing.assert_array_equal(stored(tmp_path / "run"), expected_canvas)
    messages = re.findall(r"Ray \S+ differs from the one expected and may start more slowly \((.*)\)", output)
    assert messages == ([", ".join(sorted(unusable))] if unusable else [])
    # Only where Ray needs the processes that are left out is there a second attempt, which starts them.
    attempts = re.findall(r"Ray has not started \((.*)\): trying once more", output)
    assert attempts == (["no API server"] if kind == "demanding" else [])


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """Have every test log what differs in Ray: a process logs it once."""
    private_api._differing.clear()


def private_functions() -> list[object]:
    """Return the functions of Ray that a quick start replaces."""
    return [
        node.Node.start_api_server,
        node.Node.start_monitor,
        node.Node.start_log_monitor,
        utils.get_dashboard_dependency_error,
        services.get_node,
    ]


def test_all_functions_are_replaced_in_this_ray_and_restored() -> None:
    before = private_functions()
    with pytest.raises(ZeroDivisionError), quick_start():
        assert not any(new is old for new, old in zip(private_functions(), before, strict=True))
        raise ZeroDivisionError
    assert private_functions() == before
    with quick_start(all_processes=True):
        assert private_functions()[:-1] == before[:-1]
        assert services.get_node is not before[-1]
    assert private_functions() == before


def test_a_missing_module_is_logged_and_the_rest_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = private_functions()
    monkeypatch.setitem(sys.modules, "ray._private.services", None)
    with caplog.at_level("INFO", "render"), quick_start():
        assert services.get_node is before[-1]
        assert node.Node.start_monitor is not before[1]
    assert "ray._private.services.get_node of Ray" in caplog.text
    assert private_functions() == before


@pytest.mark.parametrize("path", ["nothing.at_all", "node.Nothing.start", "node.Node.nothing", "node.Node"])
def test_a_part_that_ray_lacks_is_none(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "render"):
        assert find_private(path, ("self",)) is None
    assert caplog.text.count(f"ray._private.{path} of Ray") == 1


def test_a_part_that_cannot_be_replaced_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    part = private_api.PrivatePart(1, "start", None)
    with caplog.at_level("INFO", "render"):
        assert not part.replace(len)
    assert "ray._private.start of Ray" in caplog.text


def test_a_node_that_cannot_be_polled_for_is_asked_for_as_ray_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_address: str) -> None:
        raise KeyError("NodeID")

    def get_node(gcs_address: str, node_id: str) -> tuple[str, str]:
        return gcs_address, node_id

    monkeypatch.setattr(services, "get_node", get_node)
    monkeypatch.setattr(services, "_get_gcs_client_options", fail)
    with caplog.at_level("INFO", "render"), quick_start(all_processes=True):
        replacement: object = services.get_node
        assert replacement is not get_node
        assert services.get_node("address", node_id="id") == ("address", "id")
    assert "ray._private.state.GlobalState of Ray" in caplog.text
    assert "KeyError: 'NodeID'" in caplog.text


def test_without_rays_private_state_no_process_is_watched_and_no_node_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("worker", "state"):
        monkeypatch.setitem(sys.modules, f"ray._private.{module}", None)
    assert vital_processes({"raylet": "raylet"}) == {}
    assert draining_nodes() == {}
