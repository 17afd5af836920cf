"""How the conductor reaches its workers. An executor only makes calls and references; it knows nothing of dreaming."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from render.farm.worker import Worker

#: Stands for a result that stays where it was made until somebody needs it.
Reference = Any


class Executor(Protocol):
    """Calls methods of numbered workers. References may be passed as arguments and arrive there as values."""

    @property
    def workers(self) -> int:
        """How many workers there are."""

    def call(self, worker: int, method: str, *arguments: Any) -> Reference:
        """Starts `worker.method(*arguments)`; calls to one worker run in the order in which they were made."""

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        """Waits for results and brings them here, in order."""

    def close(self) -> None:
        """Lets the workers go."""


class InlineExecutor:
    """Workers as plain objects in this process: calls run at once, references are the values themselves."""

    def __init__(self, make_worker: Callable[[], Worker], workers: int = 1) -> None:
        self._workers = [make_worker() for _ in range(workers)]

    @property
    def workers(self) -> int:
        return len(self._workers)

    def call(self, worker: int, method: str, *arguments: Any) -> Reference:
        return getattr(self._workers[worker], method)(*arguments)

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        return list(references)

    def close(self) -> None:
        self._workers.clear()
