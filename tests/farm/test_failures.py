"""Failed calls to workers: which of Ray's errors cost a worker, which end the render, and the words for each."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, ObjectStoreFullError, RayError, RayTaskError

from render.errors import NumericalError, RenderError, UserError
from render.farm.ray.failures import read_failure


def raised_by_worker(cause: Exception) -> RayError:
    """The error that `ray.get` raises for `cause`: where it can, Ray makes it an instance of both classes."""
    error: RayError = RayTaskError("call", "ray::WorkerActor.call() (pid=41, ip=10.0.0.1)", cause).as_instanceof_cause()
    return error


def test_a_full_object_store_ends_the_render_where_it_is_this_machines() -> None:
    with pytest.raises(UserError, match="object store is full"):
        read_failure(ObjectStoreFullError("no room"))


def test_a_full_object_store_of_a_worker_is_a_failed_call_which_may_be_repeated() -> None:
    error = raised_by_worker(ObjectStoreFullError("no room"))
    assert isinstance(error, ObjectStoreFullError), "the case that is easily taken for the other"
    assert "no room" in read_failure(error).reason


def test_a_worker_out_of_memory_is_blamed_by_its_process() -> None:
    failure = read_failure(raised_by_worker(MemoryError("of an array")))
    assert failure.pids == {41}
    assert failure.reason == "out of memory (of an array)"


def test_a_dead_worker_is_a_failed_call() -> None:
    assert read_failure(ActorDiedError()).pids == frozenset()


@pytest.mark.parametrize("cause", [UserError("tiles.size=0 is too small"), NumericalError("a gradient is not finite")])
def test_an_error_for_the_user_is_raised_as_it_was(cause: RenderError) -> None:
    with pytest.raises(type(cause)) as caught:
        read_failure(raised_by_worker(cause))
    assert str(caught.value) == str(cause)


def test_a_defect_of_the_program_keeps_its_traceback() -> None:
    error = raised_by_worker(KeyError("slot"))
    with pytest.raises(RayTaskError) as caught:
        read_failure(error)
    assert caught.value is error
