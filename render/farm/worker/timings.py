"""Seconds that a worker spends on each phase."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])


class PhaseTimer:
    """Counter of seconds by phase. A phase that begins within another pauses the other's count until it ends."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._phase: str | None = None
        self._since = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time in the block as that of the phase `name`."""
        outer = self._turn_to(name)
        try:
            yield
        finally:
            self._turn_to(outer)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase so far; time between phases is not counted."""
        self._turn_to(self._phase)
        return dict(self._seconds)

    def _turn_to(self, phase: str | None) -> str | None:
        now = self._clock()
        if self._phase is not None:
            self._seconds[self._phase] += now - self._since
        self._since = now
        previous, self._phase = self._phase, phase
        return previous


def timed(phase: str) -> Callable[[Method], Method]:
    """Return a decorator that counts a method's calls as `phase` in its object's `timer`, a `PhaseTimer`."""

    def counting(method: Method) -> Method:
        @wraps(method)
        def counted(self: Any, *arguments: Any, **keywords: Any) -> Any:
            with self.timer.phase(phase):
                return method(self, *arguments, **keywords)

        return cast(Method, counted)

    return counting
