"""Detection of workers that hang without dying: stopped, or in an endless wait. It runs when no results come.

A stopped worker hangs, and so does one on a CPU that uses no CPU time. A worker that waits for its accelerator may look the
same, so it gets more time: a multiple of the longest silence that ended by itself.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: A silence is suspicious if it is this many times as long as the longest that ended by itself.
SUSPICIOUS_FACTOR = 20
#: Longest answer time of an idle worker, and longest start of the process that calls it, s.
_MAX_ANSWER_S, _MAX_START_S = 60.0, 60.0
#: Longest second answer of a worker that has given the first, s.
_MAX_SECOND_ANSWER_S = 10.0
#: Share of a CPU above which a process works; Ray's threads in an idle one use about 0.01.
_MIN_WORKING_SHARE = 0.05


class Silence:
    """Time without any result, and whether it is suspicious."""

    def __init__(self, min_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock. `min_seconds` is how long results may always be missing, s."""
        self.min_seconds = min_seconds
        self._clock = clock
        self._longest = 0.0
        self._since = clock()

    @property
    def bound(self) -> float:
        """Seconds of silence after which a worker that waits for its accelerator counts as hanging."""
        return max(self.min_seconds, SUSPICIOUS_FACTOR * self._longest)

    @property
    def exceeds_bound(self) -> bool:
        """True if it lasts far longer than any silence that ended by itself."""
        return self.seconds >= self.bound

    @property
    def seconds(self) -> float:
        """Seconds since the last result, or since the wait began."""
        return self._clock() - self._since

    def begin(self) -> None:
        """Start to wait for a result."""
        self._since = self._clock()

    def end(self) -> None:
        """Note that a result came."""
        self._longest = max(self._longest, self.seconds)
        self._since = self._clock()


@dataclass(frozen=True)
class Suspect:
    """A worker's actor, its node and process; `may_wait` is True if it may work without using a CPU."""

    handle: Any
    node: str
    pid: int
    may_wait: bool = False


def find_hanging(suspects: Mapping[int, Suspect], seconds: float, check: Callable[[], None] = lambda: None) -> set[int]:
    """Return the keys of the workers that neither answer nor work.

    Each worker is called from a process on its own machine, and says whether it is at work or waits for others: one that
    waits for a hanging one does not hang itself. Workers on machines that cannot be reached are not reported: Ray reports a
    lost machine.

    Args:
        suspects: The workers, by any numbers.
        seconds: Time in which they must answer or work, s; at most a minute is waited.
        check: Called while waiting; may raise.
    """
    patience = min(_MAX_ANSWER_S, seconds)
    by_node: dict[str, dict[int, Suspect]] = defaultdict(dict)
    for number, suspect in suspects.items():
        by_node[suspect.node][number] = suspect
    inspections = [
        _Inspection.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(group, patience)
        for node, group in by_node.items()
    ]
    numbers: set[int] = set()
    deadline = time.monotonic() + patience + _MAX_START_S
    while inspections and time.monotonic() < deadline:
        check()
        ready, inspections = ray.wait(inspections, num_returns=len(inspections), timeout=1.0)
        for inspection in ready:
            try:
                numbers |= ray.get(inspection)
            except RayError:
                continue
    return numbers


def _inspect(suspects: Mapping[int, Suspect], patience: float) -> set[int]:
    """Return the keys of the hanging workers on this machine, which is the suspects' own.

    A worker that waits for others answers that it is not at work: it hangs only if they do.
    """
    deadline = time.monotonic() + patience
    cpu_seconds_before = {number: _cpu_seconds(suspect.pid) for number, suspect in suspects.items()}
    silent = set(suspects) - _answers(suspects, patience).keys()
    time.sleep(max(0.0, deadline - time.monotonic()))
    at_work = {number for number, works in _answers(_without(suspects, silent), _MAX_SECOND_ANSWER_S).items() if works}
    numbers = set()
    for number in silent | at_work:
        suspect = suspects[number]
        cpu_seconds = _cpu_seconds(suspect.pid) - cpu_seconds_before[number]
        is_idle = cpu_seconds < _MIN_WORKING_SHARE * patience and not _awaits_disk(suspect.pid)
        if _is_stopped(suspect.pid) or (is_idle and not suspect.may_wait):
            numbers.add(number)
    return numbers


def _answers(suspects: Mapping[int, Suspect], seconds: float) -> dict[int, bool]:
    """Return which suspects answer within some seconds, and whether each is at work."""
    asked = {suspect.handle.is_at_work.remote(): number for number, suspect in suspects.items()}
    answered: dict[int, bool] = {}
    for reference in ray.wait(list(asked), num_returns=len(asked), timeout=seconds)[0] if asked else ():
        with suppress(RayError):
            answered[asked[reference]] = ray.get(reference)
    return answered


def _without(suspects: Mapping[int, Suspect], numbers: set[int]) -> dict[int, Suspect]:
    return {number: suspect for number, suspect in suspects.items() if number not in numbers}


_Inspection: Any = ray.remote(num_cpus=0, max_retries=0)(_inspect)


def _cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def _awaits_disk(pid: int) -> bool:
    """Return True if a thread of the process sleeps uninterruptibly, as while a file is flushed."""
    try:
        threads = [psutil.Process(thread.id) for thread in psutil.Process(pid).threads()]
        return any(thread.status() == psutil.STATUS_DISK_SLEEP for thread in threads)
    except psutil.Error:
        return False
