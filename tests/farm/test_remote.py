"""Remote calls: declared methods are called by reference to the declaration, and nothing else can be called."""

from __future__ import annotations

from typing import Protocol

import pytest

from render.farm.executors import InlineExecutor
from render.farm.remote import Workers, as_arguments, remote, remote_methods
from render.farm.worker.interface import RemoteProcess, RemoteWorker
from render.farm.worker.process import KernelCache, WorkerProcess
from render.farm.worker.worker import Worker


class RemoteAdder(Protocol):
    """Declares one method."""

    @remote
    def add(self, first: int, second: int, /) -> int:
        """Return the sum."""


class Adder(RemoteAdder):
    """Has a method more than it declares."""

    def add(self, first: int, second: int) -> int:
        return first + second

    def forget(self) -> None:
        raise AssertionError("not declared, so not called")


class AdderRecipe:
    """Recipe of a worker process that adds."""

    def make(self, _kernels: KernelCache) -> Adder:
        return Adder()


@pytest.fixture
def executor() -> InlineExecutor:
    """Two worker processes that are ready to add."""
    executor = InlineExecutor([WorkerProcess(), WorkerProcess()])
    executor.open(AdderRecipe())
    return executor


def test_a_declared_method_is_called_by_its_declaration(executor: InlineExecutor) -> None:
    workers = Workers(executor)
    promise = workers.start(1, RemoteAdder.add, 2, 3)
    assert workers.wait([promise]) == [promise]
    assert workers.fetch([promise]) == [5]
    assert workers.run([0, 1], RemoteAdder.add, 4, 5) == [9, 9]


def test_promises_arrive_as_values(executor: InlineExecutor) -> None:
    workers = Workers(executor)
    promises = [workers.start(0, RemoteAdder.add, 1, 2), workers.start(1, RemoteAdder.add, 2, 2)]
    assert workers.run([1], RemoteAdder.add, *as_arguments(promises)) == [7]


@pytest.mark.parametrize("method", ["forget", "call", "_serve", "__init__", "update"])
def test_what_is_not_declared_cannot_be_called(executor: InlineExecutor, method: str) -> None:
    with pytest.raises(AttributeError, match=f"{method} is no remote method here"):
        executor.call(0, method)


def test_a_worker_of_another_job_is_not_called(executor: InlineExecutor) -> None:
    """Opened for a job that cannot be, a process has no worker any more."""

    class Broken:
        def make(self, _kernels: KernelCache) -> Adder:
            raise ValueError("cannot be made")

    with pytest.raises(ValueError, match="cannot be made"):
        executor.open(Broken())
    with pytest.raises(AttributeError, match="add is no remote method here"):
        executor.call(0, "add", 1, 2)
    assert executor.call(0, "ping").value.pid


@pytest.mark.parametrize(("declaration", "implementation"), [(RemoteWorker, Worker), (RemoteProcess, WorkerProcess)])
def test_every_declared_method_is_implemented(declaration: type, implementation: type) -> None:
    """A method that is declared and not overridden would do nothing and return None."""
    declared = {name for name, member in vars(declaration).items() if callable(member) and not name.startswith("_")}
    assert remote_methods(declaration) == remote_methods(implementation) == declared
    assert all(getattr(implementation, name) is not getattr(declaration, name) for name in declared)
