"""Diagnosis of the workers that one job has leased: which of them died, hang, or are to blame for a failed call."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import ray
from ray.exceptions import RayError

from render.errors import UserError, WorkersLost
from render.farm.ray.actors import Member
from render.farm.ray.failures import CallFailure, cause_of_death
from render.farm.ray.silence import Silence, Suspect, find_hanging
from render.farm.ray.starter import WorkerStarter

log = logging.getLogger(__name__)


class WorkerHealth:
    """Finds the workers to replace.

    Between a failed call and the repair it remembers which of them caused the failure.
    """

    def __init__(self, starter: WorkerStarter) -> None:
        """Start without any failure."""
        self._starter = starter
        self._cluster = starter.cluster
        self._silence = Silence(self._cluster.config.silence)
        #: Reasons why workers are known to have failed, until they are replaced.
        self._faults: dict[Member, str] = {}
        self._last_failure = ""
        #: Number of failures since the last checkpoint for which no worker was to blame.
        self._unexplained_count = 0

    def begin_wait(self) -> None:
        """Note that the wait for a result begins."""
        self._silence.begin()

    def note_result(self) -> None:
        """Note that a result came."""
        self._silence.end()

    def note_failure(self, failure: CallFailure, members: Sequence[Member]) -> WorkersLost:
        """Remember a call's failure and which workers are to blame for it; return the error to raise."""
        self._faults |= {m: failure.reason for m in members if m.facts and m.facts.pid in failure.pids}
        self._last_failure = failure.reason
        return WorkersLost(failure.reason)

    def note_checkpoint(self) -> None:
        """Forget earlier failures: the work so far is saved."""
        self._unexplained_count = 0

    def forget_faults(self) -> None:
        """Forget which workers are to blame."""
        self._faults = {}

    def check_silence(self, members: Sequence[Member]) -> None:
        """Raise `WorkersLost` if no result has come for too long and some workers hang."""
        silent_s = self._silence.seconds
        if silent_s < self._silence.min_seconds:
            return
        log.warning("nothing has come back for %.0f s: looking for workers that hang", silent_s)
        hanging = self.find_hanging(members)
        if not hanging:
            log.warning("every worker answers or is at work: waiting on")
            self._silence.begin()
            return
        reason = f"it hangs: neither an answer nor any work after {silent_s:.0f} s of silence"
        self._faults |= dict.fromkeys(hanging, reason)
        raise self.note_failure(CallFailure(f"{len(hanging)} of {len(members)} workers hang"), members)

    def find_hanging(self, members: Sequence[Member]) -> list[Member]:
        """Return the workers that neither answer nor work."""
        # A worker that waits for its accelerator uses no CPU: it is left alone until the silence is suspicious.
        is_patient = not self._silence.exceeds_bound
        suspects = {
            number: Suspect(member.handle, member.node, member.facts.pid, is_patient and member.facts.platform != "cpu")
            for number, member in enumerate(members)
            if member.node and member.facts
        }
        numbers = find_hanging(suspects, self._cluster.config.silence, self._cluster.check_node)
        return [members[number] for number in sorted(numbers)]

    def find_lost(self, members: Sequence[Member]) -> dict[Member, str]:
        """Return the workers to replace, in order, each with the reason.

        These are the workers that do not answer, and those to blame for a failed call.

        Raises:
            UserError: All answer, and calls fail nevertheless, more often than the config's `retries` allows.
        """
        lost, self._faults = dict(self._faults), {}
        for member in lost:
            # End it at once: other workers' calls may wait for its results.
            self._starter.kill(member)
        pings = {member.handle.call.remote("ping"): member for member in members if member not in lost}
        # A live worker may be busy with a large window.
        deadline = time.monotonic() + self._silence.min_seconds
        while pings and time.monotonic() < deadline:
            self._cluster.check()
            ready, _ = ray.wait(list(pings), num_returns=1, timeout=1.0)
            for reference in ready:
                member = pings.pop(reference)
                try:
                    ray.get(reference)
                except RayError as error:
                    lost[member] = cause_of_death(error)
        if pings:
            reason = f"it hangs: neither an answer nor any work in {self._silence.min_seconds:.0f} s"
            lost |= dict.fromkeys(self.find_hanging(list(pings.values())), reason)
        if not lost:
            self._tolerate()
        return {member: lost[member] for member in members if member in lost}

    def _tolerate(self) -> None:
        """Tolerate a failure for which no worker is to blame, a few times.

        An object may have been lost with another node.
        """
        self._unexplained_count += 1
        if self._unexplained_count > self._cluster.config.retries:
            raise UserError(
                f"calls to the workers failed {self._unexplained_count} times since the last checkpoint though every "
                f"worker answers (the last: {self._last_failure}): mend that, and the same command goes on"
            )
