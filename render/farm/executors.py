"""How the conductor reaches its workers. An executor only makes calls and references; it knows nothing of dreaming."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from render.farm.notice import Notice

#: Stands for a result that stays where it was made until somebody needs it.
Reference = Any


class Executor(Protocol):
    """Calls methods of numbered workers. References may be passed as arguments and arrive there as values.

    Every method may raise `WorkersLost`; after `mend` all workers answer again, without what they held.
    """

    @property
    def workers(self) -> int:
        """How many workers there are."""

    def place(self, worker: int) -> str:
        """Where a worker lives: what one call gives to several workers at one place had better be one result."""

    def open(self, *job: Any) -> list[Any]:
        """Makes every worker ready for a job; returns what each says of itself. Workers that join later get the same."""

    def call(self, worker: int, method: str, *arguments: Any) -> Reference:
        """Starts `worker.method(*arguments)`; calls to one worker run in the order in which they were made."""

    def call_parts(self, worker: int, method: str, parts: int, *arguments: Any) -> list[Reference]:
        """Starts a call as `call` does whose result is a list of `parts` parts; each part is a reference of its own."""

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        """Those of the references whose results are there, at least one; raises KeyboardInterrupt when asked to stop."""

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        """Waits for results and brings them here, in order."""

    def grow(self) -> int:
        """Takes in workers that have become available, where more were wanted; returns how many. Waits for none."""

    def joining(self) -> int:
        """How many workers `grow` would take in by now; starts those for which there is room. Cheap."""

    def notices(self) -> list[Notice]:
        """Which workers' machines are about to go; told anew until they are retired. Cheap."""

    def retire(self, workers: Sequence[int]) -> None:
        """Lets workers go whose machines are about to; no failure is counted, and nothing starts on those machines again.

        Where all go, waits for others. Raises `UserError` when none come.
        """

    def mend(self) -> None:
        """Replaces the workers that died, or goes on with fewer. Raises `UserError` when that is of no use any more."""

    def settled(self) -> None:
        """Tells that the work so far is safe: failures before this moment no longer count against a worker."""

    def close(self) -> None:
        """Lets the workers go."""


@dataclass(eq=False)
class _Done:
    """A result that is there."""

    value: Any


class Callee(Protocol):
    """What an executor holds for each worker: a `process.WorkerProcess`, or what stands for one."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls the worker's method."""


class InlineExecutor:
    """Workers as plain objects in this process: calls run at once. `check` is called between them and may raise."""

    def __init__(self, workers: Sequence[Callee], check: Callable[[], None] = lambda: None) -> None:
        self._workers = list(workers)
        self._check = check

    @property
    def workers(self) -> int:
        return len(self._workers)

    def place(self, worker: int) -> str:  # noqa: ARG002
        return "here"

    def open(self, *job: Any) -> list[Any]:
        return [worker.call("open", *job) for worker in self._workers]

    def call(self, worker: int, method: str, *arguments: Any) -> Reference:
        given = [argument.value if isinstance(argument, _Done) else argument for argument in arguments]
        return _Done(self._workers[worker].call(method, *given))

    def call_parts(self, worker: int, method: str, parts: int, *arguments: Any) -> list[Reference]:
        results = self.call(worker, method, *arguments).value
        assert len(results) == parts
        return [_Done(result) for result in results]

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        self._check()
        return list(references)

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        return [reference.value for reference in references]

    def grow(self) -> int:
        return 0

    def joining(self) -> int:
        return 0

    def notices(self) -> list[Notice]:
        return []

    def retire(self, workers: Sequence[int]) -> None:  # noqa: ARG002
        raise AssertionError("this process does not go on without its machine")

    def mend(self) -> None:
        raise AssertionError("workers in this process cannot be lost")

    def settled(self) -> None:
        pass

    def close(self) -> None:
        self._workers.clear()
