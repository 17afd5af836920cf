"""Start of all workers of a new farm."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import ray
from ray.exceptions import RayError

from render.errors import UserError
from render.farm.ray.actors import MAX_START_S, Member
from render.farm.ray.demands import describe_nodes
from render.farm.ray.failures import cause_of_death
from render.farm.ray.starter import WorkerStarter

log = logging.getLogger(__name__)

#: Time between progress messages, s.
_MESSAGE_PERIOD_S = 30.0


def start_workers(starter: WorkerStarter, say: Callable[[str], None]) -> list[Member]:
    """Return as many started workers as the farm should have.

    Args:
        starter: Starter of single workers.
        say: Called with progress messages for users while waiting.

    Raises:
        UserError: There is no room for them, or one cannot be started.
    """
    placement, config = starter.placement, starter.cluster.config
    count = max(1, placement.target_count())
    if starter.cluster.is_local and placement.room() < count:
        raise placement.no_room_error(count)
    members: list[Member] = []
    try:
        for attempt in range(config.retries + 1):
            # Count again each time: nodes come and go.
            _fill(members, max(1, placement.target_count()), starter, say)
            reason = _release_dead(members, starter)
            if reason is None:
                break
            log.warning("a worker could not be started (attempt %d): %s", attempt + 1, reason)
        else:
            raise UserError(f"a worker cannot be started, after {config.retries} retries: {reason}")
    except BaseException:
        for member in members:
            starter.kill(member)
        raise
    for member in members:
        log.info("worker started: %s", member)
    return members


def _fill(members: list[Member], count: int, starter: WorkerStarter, say: Callable[[str], None]) -> None:
    """Fill `members` up to `count` workers and return when all are ready, or raise `UserError`."""
    placement, timeout = starter.placement, starter.cluster.config.timeout
    start = last_message_at = time.monotonic()
    while True:
        if len(members) < count:
            placement.refuse_slices()
            members += starter.begin(count - len(members), members)
        waiting = [member for member in members if not member.is_ready]
        if not waiting and len(members) >= count:
            return
        ray.wait([member.ready for member in waiting], timeout=1.0) if waiting else time.sleep(1.0)
        starter.cluster.check()
        elapsed = time.monotonic() - start
        if elapsed > timeout and placement.room() < count:
            raise placement.no_room_error(count)
        if elapsed > timeout + MAX_START_S and not placement.is_busy(len(waiting)):
            raise UserError(
                f"{len(waiting)} of {count} workers did not start within {elapsed:.0f} s though the cluster has room: "
                "look into Ray's logs on its nodes"
            )
        if time.monotonic() - last_message_at > _MESSAGE_PERIOD_S:
            last_message_at = time.monotonic()
            say(f"waiting for workers: {count - len(waiting)} of {count} have started; {describe_nodes()}")


def _release_dead(members: list[Member], starter: WorkerStarter) -> str | None:
    """Remove the workers that died at their start; return the last one's reason, or None.

    Raise `UserError` if another start would end the same way: the device is missing, or versions differ.
    """
    reason = None
    for member in list(members):
        try:
            starter.read_facts(member)
        except RayError as error:
            reason = cause_of_death(error)
            starter.kill(member)
            members.remove(member)
    return reason
