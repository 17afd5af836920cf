"""Compiled programs of one network: gradients of cores, sums over a layer, activations of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from render.dreaming.devices import Devices
from render.dreaming.executables import Build, Executables
from render.dreaming.objectives import MOST_COPIES, Objective
from render.dreaming.serialized import ProgramMemory
from render.dreaming.stored_network import SeparableNetwork
from render.geometry.geometry import KernelShape
from render.networks.network_state import State
from render.storage.program_files import ProgramFiles

#: Positions whose products are added in plain float32; the sums of more of them are compensated.
_POSITIONS_AT_ONCE = 4096

#: Constant arrays of each term of an objective: see `Term.constants`.
TermConstants = Sequence[tuple[jax.Array, ...]]


Leaf = TypeVar("Leaf")


class GradientArguments(NamedTuple, Generic[Leaf]):
    """Arguments of a compiled gradient, in the order of the program's parameters.

    All of them are dynamic; the objective's structure and the shapes of window and core are static. The leaves are arrays
    in a call, shapes where the program is compiled, and settings of each argument in trees such as `PER_WINDOW`.
    """

    #: Weights of the network: `Programs.state`.
    state: Any
    #: Pixels of the window: (rows, columns, 3) float32 RGB, 0..255.
    window: Leaf
    #: The source's pixels under the window, of the same shape; None if no term of the objective needs them.
    source: Leaf | None
    #: Constant arrays of each term, `TermConstants`.
    constants: Any
    #: Weight of each term over its number of positions, (terms,) float32: see `Objective.factors`.
    factors: Leaf
    #: Activations that each term looks at, (terms, 2, `MOST_COPIES`) int32: see `Objective.places`.
    places: Leaf
    #: First row and column of the core in the window, (2,) int32; clamped so that the core fits.
    offset: Leaf


#: True for the arguments that differ from window to window; the others are the same for all windows of a call.
PER_WINDOW: GradientArguments[bool] = GradientArguments(
    state=False, window=True, source=True, constants=False, factors=False, places=True, offset=True
)


class Programs:
    """Compiled programs of one network, by the objective's structure and the window's shape."""

    def __init__(
        self, network: SeparableNetwork, devices: Sequence[jax.Device] | None = None, files: ProgramFiles | None = None
    ) -> None:
        """Split the network into its graph and its weights; nothing is compiled yet.

        Args:
            network: The network, up to the deepest layer that is needed.
            devices: Devices that windows are spread over; None for all devices of this process.
            files: Compiled programs on disk, used if there is one device; None keeps none there.
        """
        self.network = network
        self.devices = Devices(jax.local_devices() if devices is None else devices)
        #: The executables, with what they have cost.
        self.executables = Executables(
            (network.architecture, network.precision), files if self.devices.count == 1 else None
        )
        state, self._merged = network.separated()
        #: The network's weights.
        self.state: State = self.devices.replicated(state)

    def gradient(self, objective: Objective, constants: TermConstants, shape: KernelShape) -> jax.stages.Compiled:
        """Return the executable for the gradient of an objective.

        It is compiled once for each structure, and shapes of constants, window and core.

        The executable takes `GradientArguments` and returns (*shape.core, 3) float32. With several devices it takes a
        batch of windows: see `Devices.program`.

        Args:
            objective: The objective; only its structure matters.
            constants: Constants of its terms; only their shapes matter.
            shape: Shapes of window and core.
        """
        return self.program(*self._gradient(objective, constants, shape))

    def gradient_memory(self, objective: Objective, constants: TermConstants, shape: KernelShape) -> ProgramMemory:
        """Return the memory of the executable for the gradient of an objective: see `gradient` and `Executables.memory`."""
        return self.executables.memory(*self._gradient(objective, constants, shape))

    def gradient_state(
        self, objective: Objective, constants: TermConstants, shape: KernelShape
    ) -> tuple[bool, float | None]:
        """Return whether the executable for a gradient need not be compiled: see `Executables.is_ready`."""
        return self.executables.is_ready(*self._gradient(objective, constants, shape))

    def _gradient(self, objective: Objective, constants: TermConstants, shape: KernelShape) -> tuple[object, Build]:
        """Return the key of a gradient's program, and the function that builds it."""

        def build() -> tuple[jax.stages.Wrapped, tuple]:
            """Return the program, and the arguments to compile it for."""
            gradient = partial(self.objective_gradient, objective, shape.core)
            arguments = self.argument_shapes(objective, constants, shape)
            program, batched_arguments = self.devices.program(gradient, arguments, PER_WINDOW)
            return program, (batched_arguments,)

        constant_shapes = tuple(tuple(array.shape for array in arrays) for arrays in constants)
        return (objective.structure, constant_shapes, shape), build

    def argument_shapes(
        self, objective: Objective, constants: TermConstants, shape: KernelShape, batch: tuple[int, ...] = ()
    ) -> GradientArguments[jax.ShapeDtypeStruct]:
        """Return the arguments to compile a gradient for, most of them as shapes without values.

        Args:
            objective: The objective.
            constants: Constants of its terms.
            shape: Shapes of window and core.
            batch: Leading axes of the arguments that differ from window to window.
        """
        terms, window = len(objective.terms), jax.ShapeDtypeStruct((*batch, *shape.window, 3), jnp.float32)
        return GradientArguments(
            state=self.state,
            window=window,
            source=window if objective.needs_source else None,
            constants=constants,
            factors=jax.ShapeDtypeStruct((terms,), jnp.float32),
            places=jax.ShapeDtypeStruct((*batch, terms, 2, MOST_COPIES), jnp.int32),
            offset=jax.ShapeDtypeStruct((*batch, 2), jnp.int32),
        )

    def sums(self, layer: str, shape: KernelShape) -> jax.stages.Compiled:
        """Return the executable that adds up a layer's activations over some positions of a window.

        It takes `state`, the window, and the weights of the layer's rows and of its columns, float32. It returns
        (channels,) float32.
        """

        def build() -> tuple[jax.stages.Wrapped, tuple]:
            """Return the program, and the arguments to compile it for."""
            rows, columns = self.network.architecture.output_sizes(*shape.window)[layer]

            def total(state: State, window: jax.Array, down: jax.Array, across: jax.Array) -> jax.Array:
                """Return the sum over positions of weight times activation, by channel."""
                activations = self._merged(state)(window, [layer])[layer]
                return jnp.einsum("rcf,r,c->f", activations, down, across)

            return jax.jit(total), (
                self.state,
                jax.ShapeDtypeStruct((*shape.window, 3), jnp.float32),
                jax.ShapeDtypeStruct((rows,), jnp.float32),
                jax.ShapeDtypeStruct((columns,), jnp.float32),
            )

        return self.program(("sums", layer, shape.window), build)

    def grams(self, layers: tuple[str, ...], window: tuple[int, int]) -> jax.stages.Compiled:
        """Return the executable that adds up products of activations over a window: see `Kernel.gram_products`.

        It takes `state`, the window, and for each layer the weights of its positions, (rows, columns) float32. It returns
        (channels, channels) float32 for each layer.

        Args:
            layers: Names of the layers.
            window: (rows, columns) of the window, px.
        """

        def build() -> tuple[jax.stages.Wrapped, tuple]:
            """Return the program, and the arguments to compile it for."""
            sizes = self.network.architecture.output_sizes(*window)

            def grams(state: State, pixels: jax.Array, weights: tuple[jax.Array, ...]) -> list[jax.Array]:
                """Return the weighted sum of products of each layer."""
                activations = self._merged(state)(pixels, layers)
                return [_products(activations[name], part) for name, part in zip(layers, weights, strict=True)]

            weights = tuple(jax.ShapeDtypeStruct(sizes[name], jnp.float32) for name in layers)
            return jax.jit(grams), (self.state, jax.ShapeDtypeStruct((*window, 3), jnp.float32), weights)

        return self.program(("grams", layers, window), build)

    def activations(self, layer: str, shape: tuple[int, int]) -> jax.stages.Compiled:
        """Return the executable for a layer's activations on a picture of (rows, columns) px.

        It takes `state` and the picture, (*shape, 3) float32 RGB, 0..255, and returns (rows, columns, channels) float32.
        """

        def build() -> tuple[jax.stages.Wrapped, tuple]:
            """Return the program, and the arguments to compile it for."""
            # The weights are an argument: as constants of the closure, every compiled program would hold a copy.
            program = jax.jit(lambda state, pixels: self._merged(state)(pixels, [layer])[layer])
            return program, (self.state, jax.ShapeDtypeStruct((*shape, 3), jnp.float32))

        return self.program(("activations", layer, *shape), build)

    def program(self, key: object, build: Build) -> jax.stages.Compiled:
        """Return the executable of another program; the first call for a key loads or compiles it.

        Args:
            key: Key of the program among those of this network, of values with a stable `repr`.
            build: Function that returns the program and the arguments to compile it for.
        """
        return self.executables.get(key, build)

    def objective_gradient(
        self, objective: Objective, core: tuple[int, int], arguments: GradientArguments[jax.Array]
    ) -> jax.Array:
        """Return d(objective)/d(pixel) of a window's core, to be traced and compiled.

        Args:
            objective: The objective, static.
            core: (rows, columns) of the core, px, static.
            arguments: All that is dynamic.

        Returns:
            (*core, 3) float32.
        """
        # Imported only to trace: it needs Flax. What modules compute at import is none of the trace's.
        with jax.ensure_compile_time_eval():
            from render.networks.backward import core_gradient

        network = self._merged(arguments.state)
        window, constants = arguments.window, list(arguments.constants)
        if arguments.source is not None:
            source_activations = network(arguments.source, objective.layers)
            constants = [
                (*arrays, source_activations[term.layer]) if term.needs_source else arrays
                for term, arrays in zip(objective.terms, constants, strict=True)
            ]

        activations, tape = network.taped(window, objective.layers)
        cotangents = jax.grad(
            lambda layer_activations: objective.total(layer_activations, arguments.factors, constants, arguments.places)
        )(activations)
        return core_gradient(network, tape, cotangents, (window.shape[0], window.shape[1]), core, arguments.offset)


def _products(activations: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the sum over positions of weight * a * a: (channels, channels) float32.

    Rows are added a few at a time, with the error of each addition carried on (Kahan's summation), so that the sum of many
    positions is as good as that of few.

    Args:
        activations: a, (rows, columns, channels) float32.
        weights: (rows, columns) float32.
    """
    rows, columns, channels = activations.shape
    together = min(rows, max(1, _POSITIONS_AT_ONCE // columns))
    missing = -rows % together
    parts = jnp.pad(activations, ((0, missing), (0, 0), (0, 0))).reshape(-1, together * columns, channels)
    part_weights = jnp.pad(weights, ((0, missing), (0, 0))).reshape(-1, together * columns)

    def add(
        carry: tuple[jax.Array, jax.Array], part: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        """Add the products of some rows."""
        total, error = carry
        values, weight = part
        products = jnp.matmul((values * weight[:, None]).T, values, precision=jax.lax.Precision.HIGHEST) - error
        new_total = total + products
        return (new_total, (new_total - total) - products), None

    zeros = jnp.zeros((channels, channels), jnp.float32)
    (total, _), _ = jax.lax.scan(add, (zeros, zeros), (parts, part_weights))
    return total
