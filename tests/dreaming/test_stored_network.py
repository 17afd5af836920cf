"""Weights without Flax: the same arrays in the same order as Flax's own, and no Flax where nothing is traced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from render.dreaming.stored_network import StoredNetwork
from render.networks.architecture import Architecture
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.network import Network, separated
from tests.conftest import ROOT, TINY


def random_parameters(architecture: Architecture) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in architecture.parameters().items()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "architecture",
    [GOOGLENET, GOOGLENET.truncated(["inception_3a"]), INCEPTION_V3.truncated(["mixed0"])],
    ids=["with_classifier", "googlenet", "inception_v3"],
)
def test_stored_weights_are_those_of_flax(architecture: Architecture, precision: str) -> None:
    parameters = random_parameters(architecture)
    state, merged = StoredNetwork(architecture, parameters, precision).separated()
    expected, _ = separated(Network(architecture, parameters, precision=precision))
    assert len(state) == len(architecture.parameters())
    for array, other in zip(state, expected, strict=True):
        assert (array.dtype, array.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(array, other)
    again, _ = separated(merged(state))
    assert all(array is other for array, other in zip(again, state, strict=True))


@pytest.mark.slow
def test_a_job_of_cached_programs_imports_no_flax(tmp_path: Path) -> None:
    script = (
        "import sys; from render.__main__ import main; code = main(sys.argv[1:]); "
        "print(sorted({'flax', 'optax', 'ray'} & sys.modules.keys())); sys.exit(code)"
    )

    def imported(directory: str) -> str:
        command = [sys.executable, "-c", script, "render", f"output.dir={directory}", "quiet=true", *TINY]
        finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.splitlines()[-1]

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""}
    # The first may have to trace.
    assert "ray" not in imported("first")
    assert imported("second") == "[]"
