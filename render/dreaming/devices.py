"""Devices of one process: each runs the same program on its own window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_WINDOWS = "windows"


class Devices:
    """The devices that a batch of windows is spread over, one window each.

    With one device there is no batch: JAX compiles and calls programs as usual.
    """

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        self.count = len(devices)
        self._mesh = Mesh(np.array(devices), (_WINDOWS,))

    def everywhere(self, arrays: Any) -> Any:
        """Return the arrays (any tree of them) with a copy on each device."""
        return arrays if self.count == 1 else jax.device_put(arrays, NamedSharding(self._mesh, PartitionSpec()))

    def program(
        self, function: Callable[..., jax.Array], arguments: tuple, apart: Sequence[bool]
    ) -> tuple[jax.stages.Wrapped, tuple]:
        """Return the program that computes `function`, and the arguments to compile it for.

        With one device the function and the arguments stay as they are. With several, each device runs the function on
        its own entry of the batch, without the batch axis, so the result is that of one device alone.

        Args:
            function: the function for one window.
            arguments: the shapes to compile for, without a batch axis.
            apart: for each argument, whether it comes in batches. Such arguments, and the result, get a new first
                axis with one entry per device; the other arguments are the same on all devices.
        """
        if self.count == 1:
            return jax.jit(function), arguments
        specs = tuple(PartitionSpec(_WINDOWS) if own else PartitionSpec() for own in apart)

        def on_each(*given: Any) -> jax.Array:
            pairs = zip(given, apart, strict=True)
            return function(*(jax.tree.map(lambda array: array[0], one) if own else one for one, own in pairs))[None]

        def batch(one: Any, own: bool, spec: PartitionSpec) -> Any:
            sharding = NamedSharding(self._mesh, spec)
            first = (self.count,) if own else ()
            return jax.tree.map(
                lambda array: jax.ShapeDtypeStruct((*first, *array.shape), array.dtype, sharding=sharding), one
            )

        spread = jax.shard_map(on_each, mesh=self._mesh, in_specs=specs, out_specs=PartitionSpec(_WINDOWS), check_vma=False)
        return jax.jit(spread), tuple(map(batch, arguments, apart, specs))

    def batch(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Stack the values, one for each device: (devices, ...). The last is repeated if there are fewer."""
        return np.stack([*values, *[values[-1]] * (self.count - len(values))])
