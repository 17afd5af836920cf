"""The compiled kernel: one window in, the gradient of its tile's core out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from render.dream.objectives import Objective
from render.geometry import KernelShape
from render.models.network import Network


@dataclass
class Kernel:
    """Gradient of one objective on one network, compiled once for each window shape that it meets."""

    network: Network
    objective: Objective
    compile_seconds: dict[KernelShape, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Splitting once and merging inside the traced function keeps the call overhead at that of plain jax.jit.
        graph, self._state = nnx.split(self.network)
        objective = self.objective

        def value(state: nnx.State, window: jax.Array, divisors: jax.Array) -> jax.Array:
            activations = nnx.merge(graph, state)(window, objective.layers)
            return objective.total(activations, divisors)

        def gradient(
            core: tuple[int, int], state: nnx.State, window: jax.Array, divisors: jax.Array, offset: jax.Array
        ) -> jax.Array:
            whole = jax.grad(value, argnums=1)(state, window, divisors)
            return lax.dynamic_slice(whole, (offset[0], offset[1], 0), (*core, 3))

        self._gradient = jax.jit(gradient, static_argnums=0)
        self._compiled: dict[KernelShape, jax.stages.Compiled] = {}

    def compiled(self, shape: KernelShape) -> jax.stages.Compiled:
        """The executable for a shape, compiled at the first call."""
        if shape not in self._compiled:
            start = time.perf_counter()
            self._compiled[shape] = self._gradient.lower(
                shape.core,
                self._state,
                jax.ShapeDtypeStruct((*shape.window, 3), jnp.float32),
                jax.ShapeDtypeStruct((len(self.objective.terms),), jnp.float32),
                jax.ShapeDtypeStruct((2,), jnp.int32),
            ).compile()
            self.compile_seconds[shape] = time.perf_counter() - start
        return self._compiled[shape]

    def memory(self, shape: KernelShape) -> int:
        """Bytes that one call needs beyond the weights, as XLA's own analysis of the executable has it."""
        analysis = self.compiled(shape).memory_analysis()
        assert analysis is not None, "this backend does not say what a kernel needs"
        return analysis.temp_size_in_bytes + analysis.output_size_in_bytes + 12 * shape.window[0] * shape.window[1]

    def __call__(
        self, shape: KernelShape, window: np.ndarray, divisors: tuple[float, ...], offset: tuple[int, int]
    ) -> jax.Array:
        """d(objective)/d(pixel) of a core.

        `window`: (*shape.window, 3) float32 RGB, 0..255. `divisors`: see `Objective.divisors`. `offset`: where the core
        begins in the window; it is clamped so that the core fits. Returns (*shape.core, 3) float32, not yet awaited.
        """
        weights = np.asarray(divisors, np.float32)
        return self.compiled(shape)(self._state, window, weights, np.asarray(offset, np.int32))
