"""Compiled kernel: takes a window, returns the gradient of its tile's core."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from render.dreaming.devices import Devices
from render.dreaming.objectives import MOST_COPIES, Given, Objective, owned
from render.dreaming.terms import Evidence, Vector, mean_of
from render.geometry.geometry import KernelShape, Rect
from render.networks.backward import core_gradient
from render.networks.network import Network
from render.networks.weights import Loaded

#: Whether each argument of `Programs.objective_gradient` differs by window: the window, source, places and offset do.
_OWN = (False, True, True, False, False, True, True)


class _CacheHits:
    """Number of times that JAX has found a compiled program in its cache on disk."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_listener(self._hear)

    def _hear(self, event: str, **_facts: object) -> None:
        self.count += event == "/jax/compilation_cache/cache_hits"


_cache_hits = _CacheHits()


class Programs:
    """Compiled programs of one network, keyed by the structure of the objective and the shape of the window."""

    def __init__(self, network: Network, devices: Sequence[jax.Device] | None = None) -> None:
        """Split the network; windows are spread over `devices`, by default all devices of this process."""
        self.network = network
        self.devices = Devices(jax.local_devices() if devices is None else devices)
        #: Seconds that each program took to compile, or to load from JAX's cache on disk.
        self.compile_seconds: dict[object, float] = {}
        #: Number of programs that were not in that cache.
        self.compilations = 0
        self._compiled: dict[object, jax.stages.Compiled] = {}
        # Splitting once and merging inside the traced function costs no more per call than plain jax.jit.
        self._graph, state = nnx.split(network)
        self.state = self.devices.everywhere(state)

    def gradient(
        self, objective: Objective, constants: Sequence[tuple[jax.Array, ...]], shape: KernelShape
    ) -> jax.stages.Compiled:
        """Return the executable for the gradient of an objective of this structure; the first call compiles it.

        With several devices it takes a batch of windows: see `Devices.program`.
        """
        sizes = tuple(tuple(array.shape for array in arrays) for arrays in constants)
        key = (objective.structure, sizes, shape)
        if key not in self._compiled:
            terms = len(objective.terms)
            arguments = (
                self.state,
                jax.ShapeDtypeStruct((*shape.window, 3), jnp.float32),
                jax.ShapeDtypeStruct((*shape.window, 3), jnp.float32) if objective.needs_source else None,
                constants,
                jax.ShapeDtypeStruct((terms,), jnp.float32),
                jax.ShapeDtypeStruct((terms, 2, MOST_COPIES), jnp.int32),
                jax.ShapeDtypeStruct((2,), jnp.int32),
            )
            gradient = partial(self.objective_gradient, objective, shape.core)
            self._compile(key, *self.devices.program(gradient, arguments, _OWN))
        return self._compiled[key]

    def sums(self, layer: str, shape: KernelShape) -> jax.stages.Compiled:
        """Return the executable that adds up a layer's activations over some of a window's positions."""
        key = (layer, shape.window)
        if key not in self._compiled:
            rows, columns = self.network.architecture.output_sizes(*shape.window)[layer]

            def total(state: nnx.State, window: jax.Array, down: jax.Array, across: jax.Array) -> jax.Array:
                activations = nnx.merge(self._graph, state)(window, [layer])[layer]
                return jnp.einsum("rcf,r,c->f", activations, down, across)

            arguments = (
                self.state,
                jax.ShapeDtypeStruct((*shape.window, 3), jnp.float32),
                jax.ShapeDtypeStruct((rows,), jnp.float32),
                jax.ShapeDtypeStruct((columns,), jnp.float32),
            )
            self._compile(key, jax.jit(total), arguments)
        return self._compiled[key]

    def activations(self, layer: str, shape: tuple[int, int]) -> jax.stages.Compiled:
        """Return the executable that computes a layer's activations for a picture of (rows, columns) px."""
        key = ("activations", layer, *shape)
        if key not in self._compiled:
            # The weights are an argument: as constants of the closure, every compiled program would hold a copy.
            program = jax.jit(lambda state, pixels: nnx.merge(self._graph, state)(pixels, [layer])[layer])
            self._compile(key, program, (self.state, jax.ShapeDtypeStruct((*shape, 3), jnp.float32)))
        return self._compiled[key]

    def program(self, key: object, make: Callable[[], tuple[jax.stages.Wrapped, tuple]]) -> jax.stages.Compiled:
        """Return the executable of another program, compiled at the first call for a `key`.

        `make` returns the program and the arguments to compile it for.
        """
        if key not in self._compiled:
            self._compile(key, *make())
        return self._compiled[key]

    def objective_gradient(
        self,
        objective: Objective,
        core: tuple[int, int],
        state: nnx.State,
        window: jax.Array,
        source: jax.Array | None,
        constants: Sequence[tuple[jax.Array, ...]],
        divisors: jax.Array,
        places: jax.Array,
        offset: jax.Array,
    ) -> jax.Array:
        """Compute what `gradient` compiles, for use inside other programs.

        The arguments from `state` on are those of the executable.
        """
        network = nnx.merge(self._graph, state)
        term_constants = list(constants)
        if source is not None:
            source_activations = network(source, objective.layers)
            term_constants = [
                (*arrays, source_activations[term.layer]) if term.needs_source else arrays
                for term, arrays in zip(objective.terms, constants, strict=True)
            ]

        activations, tape = network.taped(window, objective.layers)
        cotangents = jax.grad(
            lambda layer_activations: objective.total(layer_activations, divisors, term_constants, places)
        )(activations)
        return core_gradient(network, tape, cotangents, (window.shape[0], window.shape[1]), core, offset)

    def _compile(self, key: object, program: jax.stages.Wrapped, arguments: tuple) -> None:
        start, hits = time.perf_counter(), _cache_hits.count
        self._compiled[key] = program.lower(*arguments).compile()
        self.compile_seconds[key] = time.perf_counter() - start
        self.compilations += _cache_hits.count == hits


class Kernel:
    """Kernel for the gradients of a job's objectives on one network."""

    def __init__(self, programs: Programs, objectives: Sequence[Objective], loaded: Loaded) -> None:
        """Take the programs, the objectives and `loaded`, the whole model; the programs' network is its first part."""
        self.programs = programs
        self.objectives = tuple(objectives)
        self._evidence = Evidence(architecture=loaded.architecture, parameters=loaded.parameters, look=self._look)
        self._constants: dict[int, list[tuple[jax.Array, ...]]] = {}

    @property
    def devices(self) -> int:
        """Number of windows in a batch: one for each device."""
        return self.programs.devices.count

    def memory(self, shape: KernelShape, objective: int = 0) -> int:
        """Return the bytes that one call needs on each device beyond the weights, from XLA's analysis of the executable."""
        target = self.objectives[objective]
        analysis = self.programs.gradient(target, self._constants_of(objective), shape).memory_analysis()
        assert analysis is not None, "this backend does not say what a kernel needs"
        windows = 2 if target.needs_source else 1
        pixels = 12 * windows * shape.window[0] * shape.window[1]
        return analysis.temp_size_in_bytes + analysis.output_size_in_bytes + pixels

    def __call__(
        self,
        shape: KernelShape,
        window: np.ndarray,
        given: Given,
        offset: tuple[int, int],
        source: np.ndarray | None = None,
        places: NDArray[np.int32] | None = None,
    ) -> jax.Array:
        """Return d(objective)/d(pixel) of a core: (*shape.core, 3) float32, not yet awaited.

        Args:
            shape: the shapes of window and core.
            window: (*shape.window, 3) float32 RGB, 0..255.
            given: the objective and its numbers.
            offset: the position in the window at which the core begins; it is clamped so that the core fits.
            source: the source's pixels under the window, for objectives that need them.
            places: see `Objective.places`.
        """
        objective = self.objectives[given.objective]
        if places is None:
            places = np.full((len(objective.terms), 2, MOST_COPIES), -1, np.int32)
        if self.devices > 1:
            return self.batch(shape, [window], given, [offset], None if source is None else [source], [places])[0]
        return self._call(shape, given, window, source, places, np.asarray(offset, np.int32))

    def batch(
        self,
        shape: KernelShape,
        windows: Sequence[np.ndarray],
        given: Given,
        offsets: Sequence[tuple[int, int]],
        sources: Sequence[np.ndarray] | None,
        places: Sequence[NDArray[np.int32]],
    ) -> jax.Array:
        """Return the gradients of at most as many windows as there are devices; each device computes one.

        The arguments are those of a call, one entry per window.

        Returns:
            (devices, *shape.core, 3) float32, not yet awaited. Entries beyond the number of windows mean nothing.
        """
        batch = self.programs.devices.batch
        offset_array = batch([np.asarray(offset, np.int32) for offset in offsets])
        return self._call(
            shape, given, batch(windows), None if sources is None else batch(sources), batch(places), offset_array
        )

    def _call(
        self,
        shape: KernelShape,
        given: Given,
        window: np.ndarray,
        source: np.ndarray | None,
        places: NDArray[np.int32],
        offset: NDArray[np.int32],
    ) -> jax.Array:
        objective = self.objectives[given.objective]
        constants = self.constants(given)
        return self.programs.gradient(objective, constants, shape)(
            self.programs.state,
            window,
            source if objective.needs_source else None,
            constants,
            np.asarray(given.divisors, np.float32),
            places,
            offset,
        )

    def constants(self, given: Given) -> list[tuple[jax.Array, ...]]:
        """Return the constants of each term of an objective, with the chosen channels put in."""
        constants = self._constants_of(given.objective)
        for number, channels in given.chosen.items():
            vector = jnp.asarray(mean_of(channels, constants[number][0].size))
            constants = [*constants[:number], (vector,), *constants[number + 1 :]]
        return constants

    def channel_sums(
        self, shape: KernelShape, window: np.ndarray, where: Rect, core: Rect, layer: str
    ) -> NDArray[np.float64]:
        """Return for each channel of a layer the sum of the activations whose view is centred in `core`: (channels,).

        Args:
            shape: the shapes of window and core.
            window: (*shape.window, 3) float32 RGB, 0..255.
            where: the position of the window on the canvas.
            core: the rectangle of the canvas to sum over.
            layer: the layer's name.
        """
        architecture = self.programs.network.architecture
        sizes = architecture.output_sizes(*shape.window)[layer]
        axis_weights = []
        for span, window_side, core_side, size in zip(architecture.layer(layer).spans, where, core, sizes, strict=True):
            weights = np.zeros(size, np.float32)
            weights[[index for index in owned(span, window_side, core_side) if 0 <= index < size]] = 1.0
            axis_weights.append(weights)
        return np.asarray(self.programs.sums(layer, shape)(self.programs.state, window, *axis_weights), np.float64)

    def _constants_of(self, number: int) -> list[tuple[jax.Array, ...]]:
        if number not in self._constants:
            self._constants[number] = self.programs.devices.everywhere(
                [tuple(map(jnp.asarray, term.constants(self._evidence))) for term in self.objectives[number].terms]
            )
        return self._constants[number]

    def _look(self, pixels: Vector, layer: str) -> Vector:
        height, width = pixels.shape[:2]
        return np.asarray(self.programs.activations(layer, (height, width))(self.programs.state, pixels))
