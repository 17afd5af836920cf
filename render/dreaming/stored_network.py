"""A network as its weights on a device: its Flax module is built of them where a program is traced.

A job whose programs are all in the user's cache traces nothing, and starts without importing Flax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import jax
import numpy as np

from render.networks.architecture import Architecture
from render.networks.network_state import State, stored_state

if TYPE_CHECKING:
    from render.networks.network import Network


class SeparableNetwork(Protocol):
    """Network whose weights can be an argument of a program: `Network` and `StoredNetwork`."""

    architecture: Architecture
    precision: str

    def separated(self) -> tuple[State, Callable[[State], Network]]:
        """Return the weights, and the function that returns the network with weights put back."""


class StoredNetwork:
    """Network that runs the nodes of an architecture, as its weights alone."""

    def __init__(
        self, architecture: Architecture, parameters: Mapping[str, np.ndarray], precision: str = "float32"
    ) -> None:
        """Put the weights on the device; the arguments are those of `Network`."""
        self.architecture = architecture
        self.precision = precision
        self._state = stored_state(architecture, parameters, precision)

    def separated(self) -> tuple[State, Callable[[State], Network]]:
        """Return the weights, and the function that returns the network with weights put back."""
        return self._state, self._network

    def _network(self, state: State) -> Network:
        # Imported only to trace: Flax takes a third of a second. What modules compute at import is none of the trace's.
        with jax.ensure_compile_time_eval():
            from render.networks.network import Network

        return Network(self.architecture, state, precision=self.precision)
