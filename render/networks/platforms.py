"""The platform that programs are traced for: it decides which of several equal forms of an operation is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# JAX traces a function anew where its value differs.
_chosen = jax.make_user_context(None)


def platform() -> str:
    """Return the platform that programs are traced for: `cpu`, `gpu` or `tpu`.

    It is that of JAX's default devices, except inside of `tracing_for`.
    """
    return _chosen.value or jax.default_backend()


@contextmanager
def tracing_for(name: str) -> Iterator[None]:
    """Inside the context, trace for another platform than that of JAX's default devices.

    Its programs can be compiled for a described device of that platform, or run on the default device to compare forms.
    """
    with _chosen(name):
        yield


def with_this_platform(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return a function that another thread can call and that traces for this thread's platform there."""
    chosen = _chosen.value

    @wraps(function)
    def traced(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        with _chosen(chosen):
            return function(*arguments, **keywords)

    return traced
