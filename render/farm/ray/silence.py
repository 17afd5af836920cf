"""Workers that hang without dying: stopped, or waiting for what never comes. They are looked for when nothing comes back.

One that is stopped hangs, and so does one on a CPU that uses none. One that waits for its accelerator may look the same:
it is given time, as many times as long as the longest silence that ended by itself.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: Silence is suspicious once it lasts so many times as long as the longest that ended by itself.
_FAR_LONGER = 20
#: How long a worker that is idle may take to answer, and whoever asks it to start, s.
_PATIENCE, _START = 60.0, 60.0
#: Share of a CPU that a process uses which works; Ray's threads in one that does not use about a hundredth.
_WORKING = 0.05


class Silence:
    """How long nothing has come back, and whether that is suspicious."""

    def __init__(self, least: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`least` is how long nothing may come back in any case, s."""
        self.least = least
        self._clock = clock
        self._longest = 0.0
        self._since = clock()

    @property
    def bound(self) -> float:
        """Return the seconds of silence after which a worker that waits for its accelerator is taken to hang."""
        return max(self.least, _FAR_LONGER * self._longest)

    @property
    def is_far_longer(self) -> bool:
        """Whether it lasts far longer than any that ended by itself."""
        return self.seconds >= self.bound

    @property
    def seconds(self) -> float:
        """How long nothing has come back."""
        return self._clock() - self._since

    def begin(self) -> None:
        """From now on something is waited for."""
        self._since = self._clock()

    def heard(self) -> None:
        """Something came back."""
        self._longest = max(self._longest, self.seconds)
        self._since = self._clock()


@dataclass(frozen=True)
class Suspect:
    """A worker's actor and where its process is; `may_wait` where it may be at work without using a CPU."""

    handle: Any
    node: str
    pid: int
    may_wait: bool = False


def hanging(suspects: Mapping[int, Suspect], least: float, check: Callable[[], None] = lambda: None) -> set[int]:
    """The numbers of those workers that neither answer nor do anything, in `least` seconds or a minute.

    Asked from a process on each worker's own machine. Here a question would queue behind calls that wait for others'
    results, so that whoever waits for a hanging worker would seem to hang, too. Nobody is accused whose machine could not
    be asked: when it is gone, Ray says so.
    """
    patience = min(_PATIENCE, least)
    by_node: dict[str, dict[int, Suspect]] = defaultdict(dict)
    for number, suspect in suspects.items():
        by_node[suspect.node][number] = suspect
    looks = [
        _Look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(there, patience)
        for node, there in by_node.items()
    ]
    found: set[int] = set()
    deadline = time.monotonic() + patience + _START
    while looks and time.monotonic() < deadline:
        check()
        ready, looks = ray.wait(looks, num_returns=len(looks), timeout=1.0)
        for look in ready:
            try:
                found |= ray.get(look)
            except RayError:
                continue
    return found


def _look(suspects: Mapping[int, Suspect], patience: float) -> set[int]:
    """Runs on the suspects' machine."""
    before = {number: _cpu_seconds(suspect.pid) for number, suspect in suspects.items()}
    asked = {suspect.handle.call.remote("ping"): number for number, suspect in suspects.items()}
    _, silent = ray.wait(list(asked), num_returns=len(asked), timeout=patience)
    found = set()
    for reference in silent:
        number = asked[reference]
        suspect = suspects[number]
        worked = _cpu_seconds(suspect.pid) - before[number]
        idle = worked < _WORKING * patience and not _awaits_disk(suspect.pid)
        if _is_stopped(suspect.pid) or (idle and not suspect.may_wait):
            found.add(number)
    return found


_Look: Any = ray.remote(num_cpus=0, max_retries=0)(_look)


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
    """Whether a thread of the process sleeps where nothing wakes it but a device, as while a file is flushed."""
    try:
        threads = [psutil.Process(thread.id) for thread in psutil.Process(pid).threads()]
        return any(thread.status() == psutil.STATUS_DISK_SLEEP for thread in threads)
    except psutil.Error:
        return False
