"""Interface between the conductor and its workers. An executor only makes calls and references, without any dreaming."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from render.errors import PeerLost
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

    def call_together(self, method: str, arguments: Sequence[Sequence[Any]]) -> list[Reference]:
        """Start a call on each of the first workers, with its own arguments. The calls may wait for one another."""

    def poll(self, references: Sequence[Reference], *, heard: bool) -> list[Reference]:
        """Return the references whose results are ready, without waiting. Raise KeyboardInterrupt on a request to stop.

        `heard` says that a sign of life has come from the workers on another way since the last call.
        """

    def end_waiting(self, ready: Sequence[Reference]) -> None:
        """If a call of these has failed, have workers whose calls wait for it fail, too, instead of when they notice."""

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
    is_ready = True

    def wait(self) -> None:
        """Return at once."""


class _Running:
    """Call that runs in a thread of its own.

    Python ends only after it, because XLA cannot be left in the middle of a call.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        """Start the call."""
        self.value: Any = None
        self._error: BaseException | None = None
        # Not the thread's own end: a signal that interrupts `join` would make Python believe that it has ended.
        self._ended = threading.Event()
        threading.Thread(target=self._run, args=(call,)).start()

    @property
    def is_ready(self) -> bool:
        """True if it has ended."""
        return self._ended.is_set()

    def wait(self) -> BaseException | None:
        """Wait for its end, and return the error that it raised."""
        self._ended.wait()
        return self._error

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self.value = call()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()


class Callee(Protocol):
    """Interface of the object that an executor holds for each worker: a `process.WorkerProcess`, or a substitute."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Call the worker's method."""


class InlineExecutor:
    """Executor of plain objects in this process: calls run at once, and Ctrl-C waits for their end.

    `check` is called in `wait` and may raise. Every call runs inside a new context of `guard`, which may word its errors.
    """

    def __init__(
        self,
        workers: Sequence[Callee],
        check: Callable[[], None] = lambda: None,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._workers = list(workers)
        self._check = check
        self._guard = guard

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
            return _Result(self._guarded(worker, method, values))

    def call_together(self, method: str, arguments: Sequence[Sequence[Any]]) -> list[Reference]:
        """Start the calls, each in a thread of its own."""
        return [_Running(partial(self._guarded, worker, method, values)) for worker, values in enumerate(arguments)]

    def poll(self, references: Sequence[Reference], *, heard: bool) -> list[Reference]:  # noqa: ARG002
        """Return the references whose results are ready. Raise what `check` raises."""
        self._check()
        return [reference for reference in references if reference.is_ready]

    def end_waiting(self, ready: Sequence[Reference]) -> None:
        """Do nothing: a call that fails here closes its connections."""

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        """Return all references, as their results are there. Raise what `check` raises."""
        self._check()
        return list(references)

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        """Return the values. Of several errors raise the one from which the others followed."""
        errors = [error for error in (reference.wait() for reference in references) if error is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, PeerLost)):
            raise error
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

    def _guarded(self, worker: int, method: str, arguments: Sequence[Any]) -> Any:
        with self._guard():
            return self._workers[worker].call(method, *arguments)
