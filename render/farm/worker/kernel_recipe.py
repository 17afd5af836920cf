"""Recipe of a job's kernel: sent once to each worker's process, and light enough for a driver without JAX."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from render.dreaming.objectives import Objective
from render.errors import UserError
from render.networks.parameters import fingerprint
from render.networks.weights import Loaded
from render.planning.residence import ResidencySettings

if TYPE_CHECKING:
    from render.dreaming.kernel import Kernel
    from render.dreaming.programs import Programs
    from render.storage.program_files import ProgramFiles


@dataclass(frozen=True)
class KernelRecipe:
    """A network's weights, the objectives, the kernels' precision, and where blocks live."""

    loaded: Loaded
    objectives: tuple[Objective, ...]
    precision: str = "float32"
    residence: ResidencySettings = field(default_factory=ResidencySettings)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that any of the objectives reads."""
        return tuple(dict.fromkeys(layer for objective in self.objectives for layer in objective.layers))

    @property
    def network_key(self) -> tuple[str, ...]:
        """Key of the network: its weights, its last layer and its precision. Equal keys can share a network."""
        return self.loaded.sha256, self.loaded.architecture.truncated(self.layers).nodes[-1].name, self.precision

    def make_programs(self, files: ProgramFiles | None = None) -> Programs:
        """Build the network, up to the deepest layer that is needed, with nothing compiled yet.

        `files` are compiled programs on disk; None keeps none there.

        Raise `UserError` if the weights do not match their checksum, as after a broken transfer.
        """
        from render.dreaming.programs import Programs
        from render.dreaming.stored_network import StoredNetwork

        loaded = self.loaded
        check_arrival(loaded)
        network = StoredNetwork(loaded.architecture.truncated(self.layers), loaded.parameters, precision=self.precision)
        return Programs(network, files=files)

    def make(self, programs: Programs) -> Kernel:
        """Return the kernel for a network from `make_programs`."""
        from render.dreaming.kernel import Kernel

        return Kernel(programs, self.objectives, self.loaded)


def check_arrival(loaded: Loaded) -> None:
    """Raise `UserError` if the weights do not match their checksum, as after a broken transfer."""
    checksum = fingerprint(loaded.parameters)
    if checksum != loaded.sha256:
        raise UserError(
            f"the weights that reached {platform.node()} are not those of the job: sha256 {checksum[:12]}, expected "
            f"{loaded.sha256[:12]}; run the job again"
        )
