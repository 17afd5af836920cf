"""Interface between the conductor and its workers. An executor only makes calls and references, without any dreaming."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from render.farm.messages import WorkerFacts
from render.farm.notice import Notice
from render.system import interrupts

#: Reference to a result, which stays on the worker until it is needed. `remote.Promise` is one with its type.
Reference = Any


class Executor(Protocol):
    """Transport of calls to numbered workers. References may be passed as arguments and arrive there as values.

    Callers use `remote.Workers`, whose calls have types. Every method may raise `WorkersLost`; after `mend` all workers
    answer again, but the new ones hold no block, so the conductor deals all blocks anew.
    """

    @property
    def workers(self) -> int:
        """Number of workers."""

    def node_of(self, worker: int) -> str:
        """Return a worker's node. Results for several workers on one node should share one object."""

    def open(self, *job: Any) -> list[WorkerFacts]:
        """Prepare every worker for a job and return the facts of each. Workers that join later are prepared, too."""

    def call(self, worker: int, method: str, *arguments: Any) -> Reference:
        """Start `worker.method(*arguments)`. Calls to one worker run in the order in which they were made."""

    def call_parts(self, worker: int, method: str, parts: int, *arguments: Any) -> list[Reference]:
        """Start a call whose result is a list of `parts` parts, and return one reference for each part."""

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        """Return the references whose results are ready, at least one. Raise KeyboardInterrupt on a request to stop."""

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        """Wait for results and return their values, in order."""

    def grow(self) -> int:
        """Add workers that have become available, where more were requested, and return their number. Do not wait."""

    def joining(self) -> int:
        """Return how many workers `grow` would add now. Start new ones if there is room. Cheap."""

    def notices(self) -> list[Notice]:
        """Return which workers' machines are about to go, on every call until these workers are retired. Cheap."""

    def retire(self, workers: Sequence[int]) -> None:
        """Release workers whose machines are about to go. Count no failure, and start nothing on those machines again.

        If no worker is left, wait for new ones. Raise `UserError` when none come.
        """

    def mend(self) -> None:
        """Replace the workers that died, or go on with fewer. Raise `UserError` when that cannot help any more."""

    def settled(self) -> None:
        """Note that the work so far is saved: earlier failures no longer count against a worker."""

    def close(self) -> None:
        """Release the workers."""


@dataclass(eq=False)
class _Result:
    """Result that is available."""

    value: Any


class Callee(Protocol):
    """Interface of the object that an executor holds for each worker: a `process.WorkerProcess`, or a substitute."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Call the worker's method."""


class InlineExecutor:
    """Executor of plain objects in this process: calls run at once, and Ctrl-C waits for their end.

    `check` is called in `wait` and may raise.
    """

    def __init__(self, workers: Sequence[Callee], check: Callable[[], None] = lambda: None) -> None:
        self._workers = list(workers)
        self._check = check

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self._workers)

    def node_of(self, worker: int) -> str:  # noqa: ARG002
        """Return the same place for all workers."""
        return "here"

    def open(self, *job: Any) -> list[WorkerFacts]:
        """Prepare every worker for a job, one after the other."""
        with interrupts.postponed():
            return [worker.call("open", *job) for worker in self._workers]

    def call(self, worker: int, method: str, *arguments: Any) -> Reference:
        """Call the method, and return a reference to its result."""
        values = [argument.value if isinstance(argument, _Result) else argument for argument in arguments]
        with interrupts.postponed():
            return _Result(self._workers[worker].call(method, *values))

    def call_parts(self, worker: int, method: str, parts: int, *arguments: Any) -> list[Reference]:
        """Call a method that returns a list of `parts` parts, and return a reference to each part."""
        results = self.call(worker, method, *arguments).value
        assert len(results) == parts
        return [_Result(result) for result in results]

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        """Return all references, as their results are there. Raise what `check` raises."""
        self._check()
        return list(references)

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        """Return the values."""
        return [reference.value for reference in references]

    def grow(self) -> int:
        """Return 0: no worker can join."""
        return 0

    def joining(self) -> int:
        """Return 0: no worker can join."""
        return 0

    def notices(self) -> list[Notice]:
        """Return no notices: this process goes with its machine."""
        return []

    def retire(self, workers: Sequence[int]) -> None:  # noqa: ARG002
        """Raise an error, as there are no notices."""
        raise AssertionError("this process does not go on without its machine")

    def mend(self) -> None:
        """Raise an error, as no call loses a worker."""
        raise AssertionError("workers in this process cannot be lost")

    def settled(self) -> None:
        """Do nothing: failures are not counted."""

    def close(self) -> None:
        """Release the workers."""
        self._workers.clear()
