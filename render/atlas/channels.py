"""Has a farm's workers draw a layer's channels, each picture written as it comes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from render.atlas.channel_picture import ChannelPicture
from render.atlas.channel_recipe import ChannelRecipe
from render.errors import WorkersLost
from render.farm.executors import Executor, Reference

log = logging.getLogger(__name__)


def draw_channels(
    executor: Executor,
    recipe: ChannelRecipe,
    channels: Sequence[int],
    told: Callable[[str], None] = log.info,
    queued: int = 2,
) -> Iterator[tuple[int, ChannelPicture]]:
    """The pictures of channels, in the order in which they are finished.

    Each worker has `queued` channels at hand, so that it does not wait for the driver. A picture does not depend on who
    draws it. Where workers are lost, those that are left or replace them draw again what has not arrived; `told` hears of
    it. Raises `UserError` when there are none any more, and KeyboardInterrupt.
    """
    executor.open(recipe)
    waiting = deque(channels)
    at_work: dict[Reference, tuple[int, int]] = {}
    while waiting or at_work:
        try:
            _hand_out(executor, waiting, at_work, queued)
            for reference in executor.wait(list(at_work)):
                # One by one: what others have finished is not lost with a worker.
                (picture,) = executor.fetch([reference])
                channel, _ = at_work.pop(reference)
                yield channel, picture
                executor.settled()
        except WorkersLost as lost:
            waiting.extendleft(sorted((channel for channel, _ in at_work.values()), reverse=True))
            at_work.clear()
            executor.mend()
            told(f"a worker was lost: {lost}; going on with {executor.workers}")


def _hand_out(executor: Executor, waiting: deque[int], at_work: dict[Reference, tuple[int, int]], queued: int) -> None:
    """Gives every worker something to do and something to begin next."""
    held = [0] * executor.workers
    for _, worker in at_work.values():
        held[worker] += 1
    for _ in range(queued):
        for worker in range(executor.workers):
            if waiting and held[worker] < queued:
                channel = waiting.popleft()
                at_work[executor.call(worker, "channel_picture", channel)] = channel, worker
                held[worker] += 1
