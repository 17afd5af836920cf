"""Remote calls as declared, typed methods.

A class declares with `@remote` which of its methods other processes may call. The driver names such a method, and mypy
checks the name, the arguments and the result:

    promise = workers.start(3, RemoteWorker.thumbnail, every)
    ((rect, pixels),) = workers.fetch([promise])

The transport below, an `Executor`, knows the method by its name alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from render.farm.executors import Executor

Arguments = ParamSpec("Arguments")
Method = TypeVar("Method", bound=Callable[..., Any])
Value = TypeVar("Value")
Value_co = TypeVar("Value_co", covariant=True)

_MARK = "__remote__"


class Promise(Generic[Value_co]):
    """The result of a remote call, which stays on its worker until it is needed: an executor's `Reference` with a type.

    Only type checkers see this class; no object is made of it.
    """


def remote(method: Method) -> Method:
    """Declare that other processes may call a method. The method itself stays as it is."""
    setattr(method, _MARK, True)
    return method


def remote_methods(owner: type) -> frozenset[str]:
    """Return the names of the methods that a class, or a class above it, declares as remote."""
    return frozenset(name for base in owner.__mro__ for name, member in vars(base).items() if getattr(member, _MARK, False))


def as_arguments(promises: Iterable[Promise[Value]]) -> Sequence[Value]:
    """Return promises as arguments of a remote call, with the type of the values that arrive at the worker."""
    return cast(Sequence[Value], promises)


class Workers:
    """Typed calls to the workers of an executor. Errors are those of `Executor`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def start(
        self,
        worker: int,
        method: Callable[Concatenate[Any, Arguments], Value],
        /,
        *arguments: Arguments.args,
        **_keywords: Arguments.kwargs,
    ) -> Promise[Value]:
        """Start a method on one worker. Calls to one worker run in the order in which they were made.

        Args:
            worker: The worker's number.
            method: A method that its class declares as `remote`.
            arguments: By position only; for promises see `as_arguments`.
        """
        promise: Promise[Value] = self._executor.call(worker, method.__name__, *arguments)
        return promise

    def run(
        self,
        workers: Iterable[int],
        method: Callable[Concatenate[Any, Arguments], Value],
        /,
        *arguments: Arguments.args,
        **_keywords: Arguments.kwargs,
    ) -> list[Value]:
        """Run a method on several workers at once, and return their results in the order of `workers`."""
        return self._executor.fetch([self._executor.call(worker, method.__name__, *arguments) for worker in workers])

    def wait(self, promises: Iterable[Promise[Value]]) -> list[Promise[Value]]:
        """Return the promises whose results are ready, at least one. Raise KeyboardInterrupt on a request to stop."""
        return self._executor.wait(list(promises))

    def fetch(self, promises: Sequence[Promise[Value]]) -> list[Value]:
        """Wait for results and return them, in order."""
        return self._executor.fetch(promises)
