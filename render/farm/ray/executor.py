"""Executor of the workers that one job has leased: calls, failed or hanging workers, and workers that join."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ObjectStoreFullError, RayError, RayTaskError

from render.errors import RenderError, UserError, WorkersLost
from render.farm.executors import Reference
from render.farm.messages import WorkerFacts
from render.farm.notice import Notice
from render.farm.ray.actors import START, Member, is_ready
from render.farm.ray.silence import Silence, Suspect, hanging
from render.farm.ray.startup import cause_of_death, first_line

if TYPE_CHECKING:
    from render.farm.ray.pool import RayFarm

log = logging.getLogger(__name__)

#: How long to wait for replacements while the other workers could go on, s.
_JOIN = 60.0
#: Time between checks for room for more workers, and the longest pause after failed starts, s.
_LOOK_EVERY, _LONGEST_PAUSE = 5.0, 60.0
#: Time after which a worker that does not start is replaced, s.
_GIVE_UP = 300.0


@dataclass(eq=False)
class _Joining:
    """A worker that starts while the others work; `opened` resolves once it is ready for the job."""

    member: Member
    begun: float
    opened: Reference | None = None

    @property
    def is_ready(self) -> bool:
        """True if it is ready for the job, or failed to become ready."""
        return self.opened is not None and bool(ray.wait([self.opened], timeout=0)[0])


class RayExecutor:
    """The workers that one job has leased."""

    def __init__(self, farm: RayFarm, members: list[Member], check: Callable[[], None]) -> None:
        self._farm = farm
        self.members = members
        #: Number of the farm's workers that were leased at the start, including those lost since.
        self.leased = len(members)
        self._wanted = len(members)
        self._check = check
        self._job: tuple[Reference, ...] = ()
        self._joining: list[_Joining] = []
        self._look_at = self._paused_until = 0.0
        self._failed_starts = 0
        self._blamed: dict[int, str] = {}
        self._silence = Silence(farm.silence)
        #: Reason of the last failed call, and the number of failures since the last checkpoint with all workers alive.
        self._failure, self._unexplained = "", 0

    @property
    def workers(self) -> int:
        return len(self.members)

    def open(self, *job: Any) -> list[WorkerFacts]:
        """See `WorkerProcess.open`; its arguments are sent to each node once. Workers lost during the call are replaced.

        An argument may be a reference from `RayFarm.share`.
        """
        self._job = tuple(argument if isinstance(argument, ray.ObjectRef) else ray.put(argument) for argument in job)
        while True:
            try:
                return self.fetch([self.call(worker, "open", *self._job) for worker in range(self.workers)])
            except WorkersLost:
                self.mend()

    def call(self, worker: int, method: str, *arguments: Any) -> Reference:
        return self.members[worker].handle.call.remote(method, *arguments)

    def place(self, worker: int) -> str:
        return self.members[worker].node or ""

    def call_parts(self, worker: int, method: str, parts: int, *arguments: Any) -> list[Reference]:
        results = self.members[worker].handle.call_parts.options(num_returns=parts).remote(method, *arguments)
        return [results] if parts == 1 else list(results)

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        self._silence.begin()
        while True:
            self._check()
            ready, _ = ray.wait(list(references), num_returns=1, timeout=1.0)
            if ready:
                self._silence.heard()
                # Return all results that are ready, so that many small ones do not need a turn each.
                return ray.wait(list(references), num_returns=len(references), timeout=0)[0]
            self._find_hanging()

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        # Wait for all before raising an error, so that no worker still runs a call that is given up.
        waiting = list(references)
        self._silence.begin()
        while waiting:
            self._farm.check_node()
            ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1.0)
            if ready:
                self._silence.heard()
            else:
                self._find_hanging()
        try:
            return ray.get(list(references))
        except RayTaskError as error:
            # Ray wraps the worker's error; the cause has the message for the user.
            cause = error.cause
            if isinstance(cause, RayError):
                raise self._lost(cause_of_death(cause)) from None
            if isinstance(cause, RenderError):
                raise cause from None
            if isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in str(cause):
                reason = f"out of memory ({first_line(cause)})"
                # Only the text names the worker's process: the attributes are those of the cause.
                pids = {int(pid) for pid in re.findall(r"\(pid=(\d+)", str(error))}
                self._blamed |= {n: reason for n, m in enumerate(self.members) if m.facts and m.facts.pid in pids}
                raise self._lost(reason) from None
            raise
        except ObjectStoreFullError as error:
            raise UserError(f"Ray's object store is full ({first_line(error)}): free some memory or disk") from None
        except RayError as error:
            raise self._lost(cause_of_death(error)) from None

    def grow(self) -> int:
        self._begin_more()
        return self._take_in()

    def joining(self) -> int:
        if time.monotonic() >= self._look_at:
            self._begin_more()
        self._tend()
        return sum(entry.is_ready for entry in self._joining)

    def notices(self) -> list[Notice]:
        warned = self._farm.warned
        if not warned:
            return []
        by_node: dict[str, list[int]] = {}
        for number, member in enumerate(self.members):
            if member.node in warned:
                by_node.setdefault(member.node, []).append(number)
        now = time.time()
        return [Notice(tuple(numbers), warned[node].reason, warned[node].left(now)) for node, numbers in by_node.items()]

    def retire(self, workers: Sequence[int]) -> None:
        going = set(workers)
        for number in going:
            log.info("worker %d (%s) is let go", number + 1, self.members[number])
            self._farm.kill(self.members[number])
        self.members = [member for number, member in enumerate(self.members) if number not in going]
        self._blamed = {}
        if not self.members:
            self._await_any(len(going))
        if not self.members:
            raise UserError(
                f"the machines of all workers are about to go, and no other came within {self._farm.timeout:g} s "
                "(farm.timeout): the last checkpoint is kept, and the same command goes on from it"
            )

    def mend(self) -> None:
        self._farm.check_node()
        lost = self._find_lost()
        # With no worker lost, an object may have been lost with another node. Tolerate that only a few times.
        self._unexplained += not lost
        if self._unexplained > self._farm.retries:
            raise UserError(
                f"calls to the workers failed {self._unexplained} times since the last checkpoint though every worker "
                f"answers (the last: {self._failure}): mend that, and the same command goes on"
            )
        reasons = []
        survivors: list[Member] = []
        replacements = 0
        failures: list[int] = []
        for number, member in enumerate(self.members):
            if number not in lost:
                survivors.append(member)
                continue
            count = member.failures + 1
            reasons.append(lost[number])
            log.warning(
                "worker %d (%s) failed, %d time%s since the last checkpoint: %s",
                number + 1, member, count, "s" if count > 1 else "", lost[number],
            )  # fmt: skip
            self._farm.kill(member)
            if count <= self._farm.retries:
                replacements += 1
                failures.append(count)
            else:
                log.warning("worker %d is set aside", number + 1)
                self._wanted -= 1
        self.members = survivors
        if replacements:
            replacing = self._begin(replacements)
            for entry, count in zip(replacing, failures, strict=False):
                entry.member.failures = count
            if survivors:
                # Workers without room join later, when there is room.
                self._await(replacing, _JOIN)
                self._take_in()
            else:
                self._await_any(replacements)
        if not self.members:
            detail = f" (the last: {reasons[-1]})" if reasons else ""
            raise UserError(
                f"no worker is left after {self._farm.retries} retries{detail}: the last checkpoint is kept, and the same "
                "command goes on from it"
            )

    def settled(self) -> None:
        self._unexplained = 0
        for member in self.members:
            member.failures = 0

    def close(self) -> None:
        """Release workers that have not joined yet; the others go back to the farm when the lease ends."""
        for entry in self._joining:
            self._farm.kill(entry.member)
        self._joining = []

    def _begin_more(self) -> None:
        """Start workers for which there is room, without waiting for them."""
        self._look_at = time.monotonic() + _LOOK_EVERY
        self._tend()
        if time.monotonic() < self._paused_until:
            return
        target_count = self._wanted if self._farm.embedded else max(self._wanted, self._farm.wanted())
        worker_count = len(self.members) + len(self._joining)
        # A worker that waits for room makes an autoscaling cluster grow.
        can_wait = not self._farm.embedded and self._farm.fixed
        if worker_count < target_count and (can_wait or self._farm.room() > worker_count):
            self._begin(target_count - worker_count)

    def _begin(self, count: int) -> list[_Joining]:
        members = self.members + [entry.member for entry in self._joining]
        now = time.monotonic()
        entries = [_Joining(member, now) for member in self._farm.begin(count, members)]
        self._joining += entries
        return entries

    def _tend(self) -> None:
        """Prepare started workers for the job; release those that failed or take too long."""
        warned = self._farm.warned
        for entry in list(self._joining):
            is_late = time.monotonic() - entry.begun > _GIVE_UP
            if entry.opened is None and is_ready(entry.member):
                if self._farm.has_started(entry.member):
                    entry.opened = entry.member.handle.call.remote("open", *self._job)
                else:
                    self._fail(entry)
            elif entry.member.node in warned or (is_late and not entry.is_ready):
                self._part_with(entry)

    def _part_with(self, one: _Joining) -> None:
        self._joining.remove(one)
        self._farm.kill(one.member)

    def _fail(self, one: _Joining) -> None:
        """Release a worker that failed at its start. Each failure in a row delays the next start more."""
        self._part_with(one)
        self._failed_starts += 1
        self._paused_until = time.monotonic() + min(_LONGEST_PAUSE, _LOOK_EVERY * self._failed_starts)

    def _take_in(self) -> int:
        """Add the workers that are ready for the job; return their number."""
        self._tend()
        joined_count = 0
        for entry in list(self._joining):
            if not entry.is_ready:
                continue
            try:
                self.fetch([entry.opened])
            except WorkersLost as lost:
                log.warning("a worker (%s) failed at once: %s", entry.member, lost)
                self._fail(entry)
                continue
            self._joining.remove(entry)
            self._failed_starts = 0
            self.members.append(entry.member)
            joined_count += 1
        return joined_count

    def _await(self, these: Sequence[_Joining], seconds: float) -> None:
        """Wait until `these` are ready for the job, while there is room for them, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._tend()
            waiting = [entry for entry in these if entry in self._joining and not entry.is_ready]
            if not waiting or self._farm.room() <= len(self.members):
                return
            ray.wait([entry.opened or entry.member.ready for entry in waiting], num_returns=1, timeout=1.0)
            self._check()

    def _await_any(self, count: int) -> None:
        """Wait for workers when there are none: for room as long as the config allows, and then for their start.

        Start at most `count`, and repeat failed starts as often as `retries` allows.
        """
        deadline = time.monotonic() + self._farm.timeout
        attempts = 0
        while not self.members and (time.monotonic() < deadline or self._joining) and attempts <= self._farm.retries:
            if not self._joining:
                attempts += bool(self._begin(count))
            self._await(self._joining, START)
            if self._take_in() or time.monotonic() > deadline:
                return
            time.sleep(1.0)
            self._check()

    def _find_hanging(self) -> None:
        """Raise `WorkersLost` if no result has come for too long and some workers hang."""
        if self._silence.seconds < self._silence.least:
            return
        silent = self._silence.seconds
        log.warning("nothing has come back for %.0f s: looking for workers that hang", silent)
        numbers = self._hanging(range(len(self.members)))
        if not numbers:
            log.warning("every worker answers or is at work: waiting on")
            self._silence.begin()
            return
        self._blamed |= dict.fromkeys(numbers, f"it hangs: neither an answer nor any work after {silent:.0f} s of silence")
        raise self._lost(f"{len(numbers)} of {len(self.members)} workers hang")

    def _lost(self, reason: str) -> WorkersLost:
        self._failure = reason
        return WorkersLost(reason)

    def _hanging(self, numbers: Iterable[int]) -> set[int]:
        patient = not self._silence.is_far_longer
        suspects = {
            number: Suspect(member.handle, member.node, member.facts.pid, patient and member.facts.platform != "cpu")
            for number in numbers
            if (member := self.members[number]).node and member.facts
        }
        return hanging(suspects, self._farm.silence, self._farm.check_node)

    def _find_lost(self) -> dict[int, str]:
        """Return the numbers of the workers that do not answer, each with the reason."""
        lost, self._blamed = dict(self._blamed), {}
        for number in lost:
            # Kill it at once: other workers' calls may wait for its results.
            self._farm.kill(self.members[number])
        pings = {member.handle.call.remote("ping"): n for n, member in enumerate(self.members) if n not in lost}
        # A live worker may be busy with a large window.
        deadline = time.monotonic() + self._silence.least
        while pings and time.monotonic() < deadline:
            self._check()
            ready, _ = ray.wait(list(pings), num_returns=1, timeout=1.0)
            for reference in ready:
                number = pings.pop(reference)
                try:
                    ray.get(reference)
                except RayError as error:
                    lost[number] = cause_of_death(error)
        silent = self._hanging(pings.values()) if pings else set()
        return lost | dict.fromkeys(silent, f"it hangs: neither an answer nor any work in {self._silence.least:.0f} s")
