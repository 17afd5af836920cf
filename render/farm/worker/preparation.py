"""Programs of octaves to come, loaded or compiled in the background while the octaves before are dreamed."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence

from render.dreaming.kernel import Kernel
from render.farm.messages import Assignment
from render.farm.worker.resident_block import ResidencyRule
from render.farm.worker.threads import thread_count
from render.networks.platforms import with_this_platform
from render.planning.price import COMPILING_THREADS
from render.system.machine import cores

log = logging.getLogger(__name__)


class OctavePreparation:
    """Background work on the programs of a job's octaves, in the order in which they are dreamed.

    On CPUs it shares the cores with the steps. That pays all the same: neither a compilation nor a step keeps all cores
    busy by itself.
    """

    def __init__(self, kernel: Kernel, residency: ResidencyRule, platform: str) -> None:
        """Store the parts; nothing is prepared yet.

        Args:
            kernel: The job's kernel.
            residency: Decides which blocks stay on the device, and so which program they need.
            platform: Platform of the kernel, such as `cpu` or `gpu`.
        """
        self._kernel = kernel
        self._residency = residency
        self._threads = min(COMPILING_THREADS, thread_count() if platform == "cpu" else cores())
        self._waiting: deque[Assignment] = deque()

    def start(self, assignments: Sequence[Assignment]) -> None:
        """Prepare the programs of some octaves in the background, instead of what is still waiting.

        Args:
            assignments: This worker's work at each octave, as far as it is known.
        """
        self.stop()
        self._waiting = deque(assignments)
        for _ in range(min(self._threads, len(assignments))):
            threading.Thread(target=with_this_platform(self._prepare_all), args=(self._waiting,)).start()

    def stop(self) -> None:
        """Prepare no further octave."""
        self._waiting.clear()

    def _prepare_all(self, waiting: deque[Assignment]) -> None:
        """Prepare octaves until none is waiting, or the process ends."""
        while threading.main_thread().is_alive():
            try:
                assignment = waiting.popleft()
            except IndexError:
                return
            try:
                with self._kernel.programs.executables.ahead():
                    self._prepare(assignment)
            # The octave itself raises the same, where it is told to the user.
            except Exception as error:
                log.info("octave %d is not prepared ahead: %s", assignment.octave + 1, error)

    def _prepare(self, assignment: Assignment) -> None:
        if self._residency.program(assignment) is None:
            for kernel_inputs in assignment.kernel_inputs:
                self._kernel.prepare(assignment.block.grid, kernel_inputs)
