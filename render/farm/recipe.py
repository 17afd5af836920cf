"""What a worker's process needs to make a job's kernel; sent to it once, and light enough for a driver without JAX."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from render.dream.objectives import Objective
from render.errors import UserError
from render.models.weights import Loaded, fingerprint

if TYPE_CHECKING:
    from render.dream.kernel import Kernel


@dataclass(frozen=True)
class KernelRecipe:
    """The weights of a network and what to make more of."""

    loaded: Loaded
    objective: Objective

    @property
    def key(self) -> tuple[str, str]:
        """The same for kernels that do the same."""
        return self.loaded.sha256, str(self.objective)

    def make(self) -> Kernel:
        """The kernel on a network that stops at the deepest layer it needs.

        Raises `UserError` when the weights are not those that their checksum names, as after a broken transfer.
        """
        from render.dream.kernel import Kernel
        from render.models.network import Network

        loaded = self.loaded
        check_arrival(loaded)
        return Kernel(Network(loaded.architecture.truncated(self.objective.layers), loaded.parameters), self.objective)


def check_arrival(loaded: Loaded) -> None:
    """Raises `UserError` when the weights are not those that their checksum names, as after a broken transfer."""
    arrived = fingerprint(loaded.parameters)
    if arrived != loaded.sha256:
        raise UserError(
            f"the weights that reached {platform.node()} are not those of the job: sha256 {arrived[:12]}, expected "
            f"{loaded.sha256[:12]}; run the job again"
        )
