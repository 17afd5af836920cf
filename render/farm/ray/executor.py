"""The workers that one job has leased: calls to them, what becomes of those that die or hang, and of those that join."""

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
from render.farm.messages import Facts
from render.farm.notice import Notice
from render.farm.ray.actors import START, Member, is_ready
from render.farm.ray.silence import Silence, Suspect, hanging
from render.farm.ray.startup import cause_of_death, first_line

if TYPE_CHECKING:
    from render.farm.ray.pool import RayFarm

log = logging.getLogger(__name__)

#: How long to wait for workers that are to replace others while the rest could go on, s.
_JOIN = 60.0
#: How often to look whether there is room for more, and how long at most not to after some failed to start, s.
_LOOK_EVERY, _LONGEST_PAUSE = 5.0, 60.0
#: After how long a worker that does not start is begun anew, s.
_GIVE_UP = 300.0


@dataclass(eq=False)
class _Joining:
    """A worker that starts while the others work; `opened` resolves once it is ready for the job."""

    member: Member
    begun: float
    opened: Reference | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it is ready for the job, or failed at that."""
        return self.opened is not None and bool(ray.wait([self.opened], timeout=0)[0])


class RayExecutor:
    """The workers that one job has leased."""

    def __init__(self, farm: RayFarm, members: list[Member], check: Callable[[], None]) -> None:
        self._farm = farm
        self.members = members
        #: How many of the farm's workers count as leased: those that were given, whatever became of them.
        self.leased = len(members)
        self._wanted = len(members)
        self._check = check
        self._job: tuple[Reference, ...] = ()
        self._joining: list[_Joining] = []
        self._look_at = self._paused_until = 0.0
        self._failed_starts = 0
        self._blamed: dict[int, str] = {}
        self._silence = Silence(farm.silence)
        #: Why calls failed the last time, and how often since the last checkpoint they did and yet every worker answered.
        self._failure, self._unexplained = "", 0

    @property
    def workers(self) -> int:
        return len(self.members)

    def open(self, *job: Any) -> list[Facts]:
        """See `WorkerProcess.open`; its arguments are sent to each node once. Workers lost at it are replaced.

        What `RayFarm.share` has sent already may stand for an argument.
        """
        self._job = tuple(one if isinstance(one, ray.ObjectRef) else ray.put(one) for one in job)
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
        given = self.members[worker].handle.call_parts.options(num_returns=parts).remote(method, *arguments)
        return [given] if parts == 1 else list(given)

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        self._silence.begin()
        while True:
            self._check()
            ready, _ = ray.wait(list(references), num_returns=1, timeout=1.0)
            if ready:
                self._silence.heard()
                # All that are there by now, so that many small results do not take as many turns.
                return ray.wait(list(references), num_returns=len(references), timeout=0)[0]
            self._find_hanging()

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        # All of them before any error is raised: nobody is left at work on what is given up then.
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
            # Ray wraps what a worker raised; the error itself has the message for the user.
            cause = error.cause
            if isinstance(cause, RayError):
                raise self._lost(cause_of_death(cause)) from None
            if isinstance(cause, RenderError):
                raise cause from None
            if isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in str(cause):
                reason = f"out of memory ({first_line(cause)})"
                # Only the text says whose error it is: the attributes are those of the cause.
                pids = {int(pid) for pid in re.findall(r"\(pid=(\d+)", str(error))}
                self._blamed |= {n: reason for n, one in enumerate(self.members) if one.facts and one.facts.pid in pids}
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
        return sum(one.is_ready for one in self._joining)

    def notices(self) -> list[Notice]:
        warned = self._farm.warned
        if not warned:
            return []
        found: dict[str, list[int]] = {}
        for number, member in enumerate(self.members):
            if member.node in warned:
                found.setdefault(member.node, []).append(number)
        now = time.time()
        return [Notice(tuple(numbers), warned[node].reason, warned[node].left(now)) for node, numbers in found.items()]

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
        # Somebody else's loss may only pass through here: a node that vanished takes its objects along. Not for ever.
        self._unexplained += not lost
        if self._unexplained > self._farm.retries:
            raise UserError(
                f"calls to the workers failed {self._unexplained} times since the last checkpoint though every worker "
                f"answers (the last: {self._failure}): mend that, and the same command goes on"
            )
        reasons = []
        keep: list[Member] = []
        replacements = 0
        failures: list[int] = []
        for number, member in enumerate(self.members):
            if number not in lost:
                keep.append(member)
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
        self.members = keep
        if replacements:
            begun = self._begin(replacements)
            for one, count in zip(begun, failures, strict=False):
                one.member.failures = count
            if keep:
                # Those for whom there is no room by now are taken in when there is.
                self._await(begun, _JOIN)
                self._take_in()
            else:
                self._await_any(replacements)
        if not self.members:
            why = f" (the last: {reasons[-1]})" if reasons else ""
            raise UserError(
                f"no worker is left after {self._farm.retries} retries{why}: the last checkpoint is kept, and the same "
                "command goes on from it"
            )

    def settled(self) -> None:
        self._unexplained = 0
        for member in self.members:
            member.failures = 0

    def close(self) -> None:
        """Lets go of workers that have not been taken in; the others go back to the farm when the lease ends."""
        for one in self._joining:
            self._farm.kill(one.member)
        self._joining = []

    def _begin_more(self) -> None:
        """Starts workers for which there is room, without waiting for them."""
        self._look_at = time.monotonic() + _LOOK_EVERY
        self._tend()
        if time.monotonic() < self._paused_until:
            return
        wanted = self._wanted if self._farm.embedded else max(self._wanted, self._farm.wanted())
        have = len(self.members) + len(self._joining)
        # What waits for room is what makes a cluster that can grow do so.
        expected = not self._farm.embedded and self._farm.fixed
        if have < wanted and (expected or self._farm.room() > have):
            self._begin(wanted - have)

    def _begin(self, count: int) -> list[_Joining]:
        taken = self.members + [one.member for one in self._joining]
        now = time.monotonic()
        begun = [_Joining(member, now) for member in self._farm.begin(count, taken)]
        self._joining += begun
        return begun

    def _tend(self) -> None:
        """Has workers that have started made ready for the job; lets those go that failed or take too long."""
        warned = self._farm.warned
        for one in list(self._joining):
            late = time.monotonic() - one.begun > _GIVE_UP
            if one.opened is None and is_ready(one.member):
                if self._farm.has_started(one.member):
                    one.opened = one.member.handle.call.remote("open", *self._job)
                else:
                    self._fail(one)
            elif one.member.node in warned or (late and not one.is_ready):
                self._part_with(one)

    def _part_with(self, one: _Joining) -> None:
        self._joining.remove(one)
        self._farm.kill(one.member)

    def _fail(self, one: _Joining) -> None:
        """Lets a worker go that failed at its start. Each in a row puts the next off for longer."""
        self._part_with(one)
        self._failed_starts += 1
        self._paused_until = time.monotonic() + min(_LONGEST_PAUSE, _LOOK_EVERY * self._failed_starts)

    def _take_in(self) -> int:
        """Takes in those that are ready for the job; returns how many."""
        self._tend()
        joined = 0
        for one in list(self._joining):
            if not one.is_ready:
                continue
            try:
                self.fetch([one.opened])
            except WorkersLost as lost:
                log.warning("a worker (%s) failed at once: %s", one.member, lost)
                self._fail(one)
                continue
            self._joining.remove(one)
            self._failed_starts = 0
            self.members.append(one.member)
            joined += 1
        return joined

    def _await(self, these: Sequence[_Joining], seconds: float) -> None:
        """Waits until these are ready for the job, while there is room for them, and for so many seconds at most."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._tend()
            waiting = [one for one in these if one in self._joining and not one.is_ready]
            if not waiting or self._farm.room() <= len(self.members):
                return
            ray.wait([one.opened or one.member.ready for one in waiting], num_returns=1, timeout=1.0)
            self._check()

    def _await_any(self, count: int) -> None:
        """Waits for workers where there are none: for room as long as the config says, then until they have started.

        At most `count`, which start again as often as `retries` says.
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
        """Raises `WorkersLost` when nothing has come back for too long and there are workers who hang."""
        if self._silence.seconds < self._silence.least:
            return
        silent = self._silence.seconds
        log.warning("nothing has come back for %.0f s: looking for workers that hang", silent)
        found = self._hanging(range(len(self.members)))
        if not found:
            log.warning("every worker answers or is at work: waiting on")
            self._silence.begin()
            return
        self._blamed |= dict.fromkeys(found, f"it hangs: neither an answer nor any work after {silent:.0f} s of silence")
        raise self._lost(f"{len(found)} of {len(self.members)} workers hang")

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
        """Which workers do not answer, and why."""
        lost, self._blamed = dict(self._blamed), {}
        for number in lost:
            # At once: the others' calls may wait for what it will never give.
            self._farm.kill(self.members[number])
        asked = {member.handle.call.remote("ping"): n for n, member in enumerate(self.members) if n not in lost}
        # One that is alive may be amid a large window.
        deadline = time.monotonic() + self._silence.least
        while asked and time.monotonic() < deadline:
            self._check()
            ready, _ = ray.wait(list(asked), num_returns=1, timeout=1.0)
            for reference in ready:
                number = asked.pop(reference)
                try:
                    ray.get(reference)
                except RayError as error:
                    lost[number] = cause_of_death(error)
        silent = self._hanging(asked.values()) if asked else set()
        return lost | dict.fromkeys(silent, f"it hangs: neither an answer nor any work in {self._silence.least:.0f} s")
