"""Command `atlas`: draw the channels of a layer, or what each layer does to a picture."""

from __future__ import annotations

from collections.abc import Sequence

from render.config.compose import load
from render.config.root_kinds import ATLAS
from render.system import interrupts


def atlas_command(root: str, words: Sequence[str]) -> int:
    """Make the atlas of a config and print the places of its page and sheets."""
    config = load(ATLAS, root, words)
    # These need JAX. A wrong word is refused before.
    from render.atlas.build import make_atlas
    from render.job import report
    from render.job.progress import say

    interrupts.hold()
    report.start_logging(quiet=config.quiet)
    say(*map(str, make_atlas(config)), quiet=config.quiet)
    return 0
