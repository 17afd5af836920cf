"""Compiled programs that a process keeps from job to job, and those that it forgets before it has too many."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, resolve
from render.farm.worker import process
from render.farm.worker.kernel_recipe import KernelRecipe
from render.farm.worker.process import KernelCache
from render.geometry.geometry import KernelShape
from render.networks.weights import Loaded
from render.system.machine import memory_maps


def gradient(kernel: Kernel, side: int) -> np.ndarray:
    """Return the gradient of a window of a given side, px."""
    pixels = np.random.default_rng(side).uniform(0, 255, (side, side, 3)).astype(np.float32)
    return np.asarray(kernel(KernelShape((side, side), (side, side)), pixels, KernelInputs(0, (1.0,)), (0, 0)))


@pytest.mark.skipif(sys.platform != "linux", reason="memory maps are Linux's")
def test_a_process_unloads_its_programs_before_it_has_too_many(inception: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = KernelRecipe(inception, (resolve(["conv2d_1a_3x3"], inception.architecture),))
    kernels = KernelCache()
    kernel = kernels.find(recipe)

    def maps() -> int:
        counted = memory_maps()
        assert counted is not None
        assert counted[1] > 1000
        return counted[0]

    before = maps()
    gradients = {side: gradient(kernel, side) for side in range(32, 80, 4)}
    full, compiled = maps(), kernels.compilations
    assert full > before + 5 * len(gradients)
    assert kernels.find(recipe).programs is kernel.programs

    monkeypatch.setattr(process, "memory_maps", lambda: (6, 10))
    del kernel
    renewed = kernels.find(recipe)
    assert maps() < (before + full) / 2
    monkeypatch.undo()
    assert all(np.array_equal(gradient(renewed, side), expected) for side, expected in gradients.items())
    assert kernels.networks_built == 2
    assert kernels.compilations >= compiled
