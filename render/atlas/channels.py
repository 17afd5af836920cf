"""Distribution of a layer's channels over the workers of a farm."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from render.atlas.channel_picture import ChannelPicture, RemoteVisualiser
from render.atlas.channel_recipe import ChannelRecipe
from render.errors import WorkersLost
from render.farm.executors import Executor
from render.farm.messages import WorkerFacts
from render.farm.remote import Promise, Workers
from render.planning.residence import WINDOWS_SHARE, ResidencySettings

log = logging.getLogger(__name__)

#: Channels that one call draws.
Group = tuple[int, ...]


def draw_channels(
    executor: Executor,
    recipe: ChannelRecipe,
    channels: Sequence[int],
    say: Callable[[str], None] = log.info,
    queued: int = 2,
    batch: int | str = "auto",
) -> Iterator[tuple[int, ChannelPicture]]:
    """Yield (channel, picture) in the order in which the pictures are finished.

    A picture does not depend on the worker that draws it, nor on those that it is drawn with. If workers are lost, the
    remaining workers or their replacements draw again the channels that have not arrived.

    Args:
        executor: the workers.
        recipe: the weights and settings, sent to every worker once.
        channels: channels to draw.
        say: called with a line when workers are lost.
        queued: calls that each worker holds at a time; with 2, it does not wait for the driver.
        batch: channels that are drawn at once, or `auto`: as many as suit the workers' devices.

    Raises:
        UserError: if no worker is left.
        KeyboardInterrupt: if the user interrupts.
    """
    size = batch_size(executor.open(recipe), recipe, len(channels), batch)
    log.info("drawn in one call: %d", size)
    waiting_groups = deque(tuple(channels[first : first + size]) for first in range(0, len(channels), size))
    workers = Workers(executor)
    pending: dict[Promise[list[ChannelPicture]], tuple[Group, int]] = {}
    while waiting_groups or pending:
        try:
            _assign(executor, waiting_groups, pending, queued, size)
            for promise in workers.wait(pending):
                # Fetch one at a time, so that a lost worker does not take the results of others with it.
                (pictures,) = workers.fetch([promise])
                group, _ = pending.pop(promise)
                yield from zip(group, pictures, strict=True)
                executor.settled()
        except WorkersLost as lost:
            waiting_groups.extendleft(sorted((group for group, _ in pending.values()), reverse=True))
            pending.clear()
            executor.mend()
            say(f"a worker was lost: {lost}; going on with {executor.workers}")


def batch_size(workers: Sequence[WorkerFacts], recipe: ChannelRecipe, channels: int, batch: int | str) -> int:
    """Return how many channels go through the kernel in one call.

    `auto` takes one on CPUs, whose cores one picture occupies, and as many as occupy the smallest accelerator, within a
    share of its memory, but never so many that a worker would have none. A number is taken as it is.

    Args:
        workers: facts of the workers.
        recipe: the pictures.
        channels: channels to draw.
        batch: `farm.worker.batch`.
    """
    views, side = (recipe.maco.crops, recipe.maco.view) if recipe.method == "maco" else (1, recipe.size)
    sizes = [
        ResidencySettings(batch=batch).windows_per_call(
            facts.platform, (side, views * side), recipe.picture_bytes, int(WINDOWS_SHARE * facts.device_bytes)
        )
        for facts in workers
    ]
    return min(sizes) if batch != "auto" else max(1, min(*sizes, -(-channels // len(workers))))


def _assign(
    executor: Executor,
    waiting: deque[Group],
    pending: dict[Promise[list[ChannelPicture]], tuple[Group, int]],
    queued: int,
    size: int,
) -> None:
    """Send waiting groups to workers until each of them holds `queued`.

    `pending` gets (group, worker) for the promise of every call; `size` is the number of channels of a whole group.
    """
    held_counts = [0] * executor.workers
    for _, worker in pending.values():
        held_counts[worker] += 1
    for _ in range(queued):
        for worker in range(executor.workers):
            if waiting and held_counts[worker] < queued:
                group = waiting.popleft()
                promise = Workers(executor).start(worker, RemoteVisualiser.channel_pictures, group, size)
                pending[promise] = group, worker
                held_counts[worker] += 1
