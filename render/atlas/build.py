"""Entry point of atlases: the channels of one layer, or a ladder of layers."""

from __future__ import annotations

from pathlib import Path

from render.atlas.channel_atlas import make_channel_atlas
from render.atlas.ladder import make_ladder
from render.config.atlas_schema import AtlasConfig


def make_atlas(config: AtlasConfig) -> list[Path]:
    """Make the missing pictures of an atlas; return the paths of its page and sheets."""
    return make_ladder(config) if config.layer is None and config.classes is None else make_channel_atlas(config)
