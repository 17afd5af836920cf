"""Speed of an atlas with several channels in a kernel call, relative to one.

    python -m tests.reports.batches [batch=4] [channels=8] [rounds=3] [KEY=VALUE ...]

Draws the first channels of a layer in this process, one at a time and `batch` at a time in turn, and prints pictures per
minute of each and the median ratio. KEY=VALUE are words of `make atlas`.
"""

from __future__ import annotations

import statistics
import sys
import time

from render.atlas.channel_recipe import ChannelRecipe
from render.atlas.setup import load_weights
from render.config.compose import load
from render.config.root_kinds import ATLAS
from render.farm.worker.process import use_compilation_cache

_OWN_WORDS = {"batch": 4, "channels": 8, "rounds": 3}


def main(words: list[str]) -> None:
    """Measure and print."""
    own = dict(_OWN_WORDS)
    settings = []
    for word in words:
        key, _, value = word.partition("=")
        if key in own:
            own[key] = int(value)
        else:
            settings.append(word)
    use_compilation_cache()
    config = load(ATLAS, "atlas", settings)
    assert config.layer is not None, "name a layer"
    visualiser = ChannelRecipe.of(config, config.layer, load_weights(config)).make()
    channels = list(range(own["channels"]))

    def rate(batch: int) -> float:
        """Return pictures per minute."""
        start = time.perf_counter()
        visualiser.channel_pictures(channels, batch)
        return 60 * len(channels) / (time.perf_counter() - start)

    for batch in (1, own["batch"]):
        visualiser.channel_pictures(channels[:1], batch)
    rates = [(rate(1), rate(own["batch"])) for _ in range(own["rounds"])]
    single, batched = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(batched / single for single, batched in rates)
    print(f"{config.method}, {config.layer}, {config.size} px, {config.steps} steps: {single:.1f} pictures a minute one at")
    print(f"a time, {batched:.1f} with {own['batch']} at a time; median ratio of {own['rounds']} pairs {ratio:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
