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
        """Make a mesh of one axis from the devices."""
        self.count = len(devices)
        self._mesh = Mesh(np.array(devices), (_WINDOWS,))

    def replicated(self, arrays: Any) -> Any:
        """Return the arrays (any tree of them) with a copy on each device."""
        return arrays if self.count == 1 else jax.device_put(arrays, NamedSharding(self._mesh, PartitionSpec()))

    def program(
        self, function: Callable[[Any], jax.Array], arguments: Any, per_window: Any
    ) -> tuple[jax.stages.Wrapped, Any]:
        """Return the program that computes a function, and the arguments to compile it for.

        With one device the function and the arguments stay as they are. With several, each device runs the function on
        its own entry of the batch, without the batch axis, so the result is that of one device alone.

        Args:
            function: Function of one window's arguments.
            arguments: Shapes to compile for, a tree without a batch axis.
            per_window: Tree of bools, of which `arguments` may be an extension: True for arguments that differ from
                window to window. These, and the result, get a new first axis with one entry per device; the other
                arguments are the same on all devices.
        """
        if self.count == 1:
            return jax.jit(function), arguments

        def on_each(batch: Any) -> jax.Array:
            """Compute this device's entry of a batch, (1, ...)."""
            return function(
                jax.tree.map(
                    lambda differs, part: jax.tree.map(lambda array: array[0], part) if differs else part, per_window, batch
                )
            )[None]

        def batched(differs: bool, part: Any) -> Any:
            """Return the shapes of an argument for all devices, with their sharding."""
            sharding = NamedSharding(self._mesh, _spec(differs))
            batch = (self.count,) if differs else ()
            return jax.tree.map(
                lambda array: jax.ShapeDtypeStruct((*batch, *array.shape), array.dtype, sharding=sharding), part
            )

        spread = jax.shard_map(
            on_each,
            mesh=self._mesh,
            in_specs=(jax.tree.map(_spec, per_window),),
            out_specs=_spec(differs=True),
            check_vma=False,
        )
        return jax.jit(spread), jax.tree.map(batched, per_window, arguments)

    def sharded(self, values: np.ndarray) -> jax.Array:
        """Return (devices, ...) values with each device's entry on it."""
        return jax.device_put(values, NamedSharding(self._mesh, _spec(differs=True)))

    def spread(self, entries: Sequence[jax.Array]) -> jax.Array:
        """Return a batch of arrays, (1, ...) each, one for each device, copied to it from device to device."""
        moved = [jax.device_put(entry, device) for entry, device in zip(entries, self._mesh.devices, strict=True)]
        shape = (self.count, *entries[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, NamedSharding(self._mesh, _spec(differs=True)), moved)

    def gathered(self, batch: jax.Array) -> list[jax.Array]:
        """Return the entries of a batch, (1, ...) each, copied to the first device in the order of devices."""
        shards = sorted(batch.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return [jax.device_put(shard.data, self._mesh.devices[0]) for shard in shards]

    def batch(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return the values stacked, one for each device: (devices, ...).

        If there are fewer, the last is repeated.
        """
        return np.stack([*values, *[values[-1]] * (self.count - len(values))])


def _spec(differs: bool) -> PartitionSpec:
    return PartitionSpec(_WINDOWS) if differs else PartitionSpec()
