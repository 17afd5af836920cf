"""Changes among the workers: lost ones are replaced, those on leaving machines are released, new ones join."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from render.farm.events import Noticed, Recovered
from render.farm.executors import Executor
from render.farm.notice import Notice
from render.geometry.blocks import deal_blocks
from render.planning.deal import Deal
from render.planning.plan import Octave

log = logging.getLogger(__name__)


class MachinesLeaving(Exception):
    """Machines of workers are about to go, so the current work is given up."""

    def __init__(self, notices: Sequence[Notice]) -> None:
        super().__init__("; ".join(sorted({str(notice) for notice in notices})))
        self.workers = sorted({number for notice in notices for number in notice.workers})


class Membership:
    """The set of an executor's workers, and its changes.

    After each change the conductor deals the blocks anew: from the newest checkpoint, or at an octave's start.
    """

    def __init__(self, executor: Executor, arrangement: tuple[int, int] | None) -> None:
        """Store the settings; `arrangement` is the requested (rows, columns) of blocks."""
        self._executor = executor
        self._arrangement = arrangement

    def replace_lost(self, reason: str) -> Recovered:
        """Replace the workers that died, or go on with fewer. Raise `UserError` when that cannot help any more."""
        log.warning("a worker was lost: %s", reason)
        self._executor.mend()
        log.info("going on with %d workers", self._executor.workers)
        return Recovered(reason, self._executor.workers)

    def check_notices(self) -> None:
        """Raise `MachinesLeaving` if machines of workers are about to go."""
        notices = self._executor.notices()
        if notices:
            leaving = MachinesLeaving(notices)
            log.warning("machines of %d workers are about to go: %s", len(leaving.workers), leaving)
            raise leaving

    def retire(self, leaving: MachinesLeaving, *, saved: bool) -> Noticed:
        """Release the workers whose machines are about to go; `saved` says if all finished steps are saved."""
        self._executor.retire(leaving.workers)
        log.info("going on with %d workers", self._executor.workers)
        return Noticed(str(leaving), len(leaving.workers), self._executor.workers, saved)

    def admit_for_octave(self, octave: Octave) -> None:
        """Add the workers that are ready to join; the octave is then dealt to all."""
        joined = self._executor.grow()
        if joined:
            log.info("%d more workers from octave %d on: %d in all", joined, octave.index + 1, self._executor.workers)

    def admit_at_checkpoint(self, deal: Deal) -> bool:
        """Add the workers that are ready to join, if the octave's tiles make more blocks. Return True if any joined."""
        joining = self._executor.joining()
        worker_count = self._executor.workers + joining
        blocks = deal_blocks(deal.octave.grid, worker_count, self._arrangement) if joining else ()
        if len(blocks) <= len(deal.blocks):
            return False
        joined = self._executor.grow()
        if joined:
            log.info("%d more workers from the checkpoint on: %d in all", joined, self._executor.workers)
        return bool(joined)
