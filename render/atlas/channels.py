"""Distribution of a layer's channels over the workers of a farm."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from render.atlas.channel_picture import ChannelPicture, RemoteVisualiser
from render.atlas.channel_recipe import ChannelRecipe
from render.errors import WorkersLost
from render.farm.executors import Executor
from render.farm.remote import Promise, Workers

log = logging.getLogger(__name__)


def draw_channels(
    executor: Executor,
    recipe: ChannelRecipe,
    channels: Sequence[int],
    told: Callable[[str], None] = log.info,
    queued: int = 2,
) -> Iterator[tuple[int, ChannelPicture]]:
    """Yield (channel, picture) in the order in which the pictures are finished.

    A picture does not depend on the worker that draws it. If workers are lost, the remaining workers or their
    replacements draw again the channels that have not arrived.

    Args:
        executor: the workers.
        recipe: the weights and settings, sent to every worker once.
        channels: channels to draw.
        told: called with a line when workers are lost.
        queued: channels that each worker holds at a time, so that it does not wait for the driver.

    Raises:
        UserError: if no worker is left.
        KeyboardInterrupt: if the user interrupts.
    """
    executor.open(recipe)
    waiting_channels = deque(channels)
    workers = Workers(executor)
    pending: dict[Promise[ChannelPicture], tuple[int, int]] = {}
    while waiting_channels or pending:
        try:
            _hand_out(executor, waiting_channels, pending, queued)
            for promise in workers.wait(pending):
                # Fetch one at a time, so that a lost worker does not take the results of others with it.
                (picture,) = workers.fetch([promise])
                channel, _ = pending.pop(promise)
                yield channel, picture
                executor.settled()
        except WorkersLost as lost:
            waiting_channels.extendleft(sorted((channel for channel, _ in pending.values()), reverse=True))
            pending.clear()
            executor.mend()
            told(f"a worker was lost: {lost}; going on with {executor.workers}")


def _hand_out(
    executor: Executor, waiting: deque[int], at_work: dict[Promise[ChannelPicture], tuple[int, int]], queued: int
) -> None:
    """Send calls until every worker holds `queued` channels, as far as channels are waiting."""
    held_counts = [0] * executor.workers
    for _, worker in at_work.values():
        held_counts[worker] += 1
    for _ in range(queued):
        for worker in range(executor.workers):
            if waiting and held_counts[worker] < queued:
                channel = waiting.popleft()
                promise = Workers(executor).start(worker, RemoteVisualiser.channel_picture, channel)
                at_work[promise] = channel, worker
                held_counts[worker] += 1
