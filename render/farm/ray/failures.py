"""Reasons for failed calls to workers, in few words: Ray's own texts are long."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray.exceptions import ActorDiedError, ObjectStoreFullError, OutOfMemoryError, RayError, RayTaskError

from render.errors import PeerLost, RenderError, UserError
from render.farm.executors import Reference
from render.system.accelerators import runtime_problem


@dataclass(frozen=True)
class CallFailure:
    """Failure of a worker's call that replacing workers may mend.

    Attributes:
        reason: Reason in few words.
        pids: Numbers of the processes at fault, if they are known and do not end by themselves.
        followed: True if another failure is likely to be the cause.
    """

    reason: str
    pids: frozenset[int] = frozenset()
    followed: bool = False


def first_cause(references: Sequence[Reference]) -> CallFailure:
    """Return the failure from which those of other calls followed; all calls have ended. See `read_failure` for errors.

    Workers that step together lose their peers when one fails: that says nothing about the cause.
    """
    failures = []
    for reference in references:
        try:
            ray.get(reference)
        except RayError as error:
            failures.append(read_failure(error))
    return min(failures, key=lambda failure: failure.followed)


def read_failure(error: RayError) -> CallFailure:
    """Return the failure behind an error of `ray.get`.

    Raises:
        RenderError: The worker has raised one, or the object store is full on this machine. On a worker's, it may have room
            again when the call is repeated.
        RayTaskError: The worker has raised another error, which is a defect of the program.
    """
    if not isinstance(error, RayTaskError):
        if isinstance(error, ObjectStoreFullError):
            raise UserError(f"Ray's object store is full ({first_line(error)}): free some memory or disk")
        return CallFailure(cause_of_death(error))
    # Ray wraps the worker's error; the cause has the message for the user.
    cause = error.cause
    if isinstance(cause, RayError):
        return CallFailure(cause_of_death(cause))
    if isinstance(cause, PeerLost):
        return CallFailure(first_line(cause), followed=True)
    if isinstance(cause, RenderError):
        raise cause
    # Only the text names the worker's process: the attributes are those of the cause.
    pids = frozenset(int(pid) for pid in re.findall(r"\(pid=(\d+)", str(error)))
    if isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in str(cause):
        return CallFailure(f"out of memory ({first_line(cause)})", pids)
    if problem := runtime_problem(cause):
        return CallFailure(f"its device: {problem.reason} ({first_line(cause)})", pids)
    raise error


def first_line(error: BaseException) -> str:
    """Return an error's first line, without the stop at its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")


def cause_of_death(error: BaseException) -> str:
    """Return in few words why a worker died: Ray's own text is a page of guesses."""
    text = str(error)
    if "node" in text and ("has died" in text or "was terminated" in text) and "worker process has died" not in text:
        return "its node died"
    if isinstance(error, OutOfMemoryError) or "memory monitor" in text or "low on memory" in text:
        return "it was ended because its node ran out of memory"
    if "creation task" in text:
        return f"it could not start ({_last_line(text)})"
    if isinstance(error, ActorDiedError):
        if "worker process has died" in text:
            return "its process died: it was killed, ran out of memory, or crashed"
        return f"Ray ended it ({_last_line(text)})"
    return first_line(error)


def _last_line(text: str) -> str:
    """Return the last line of Ray's text, where the cause stands, without the stop at its end."""
    return text.strip().splitlines()[-1].strip().rstrip(".")
