"""The colours beyond sRGB that a job's pictures take from its source: only where their profile is wider."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from render.config.schema import Config, SourceConfig
from render.errors import UserError
from render.export.profile import Profile
from render.geometry.geometry import BOUNDARY_MODES
from render.planning.layout import lay_out
from render.source.source import find_picture, open_source_size
from render.source.wide_source import WideSource, wide_source
from render.storage.url import checked_url


@dataclass(frozen=True)
class SourceSearch:
    """Result of a look for a source with colours beyond sRGB.

    Attributes:
        source: The source; None if there is none.
        is_missing: True if the source's file is gone, has changed, or may not be read.
    """

    source: WideSource | None = None
    is_missing: bool = False


def find_wide_source(config: Config, profile: Profile, image_sha256: str | None, *, fetches: bool = False) -> SourceSearch:
    """Look for colours beyond sRGB that pictures in `profile` can show; only the source's header is read.

    Args:
        config: The run's config; it may come from an untrusted person.
        profile: Profile of the pictures.
        image_sha256: Digest of the source's file; another file of its name is not read.
        fetches: True if a source at a URL may be read: the config is the user's own.
    """
    if profile.is_srgb or profile.is_link or config.image == "noise":
        return SourceSearch()
    if not fetches and checked_url(config.image, "image") is not None:
        return SourceSearch(is_missing=True)
    try:
        path, sha256 = find_picture(config.image, "a path, sample:NAME or noise")
        if sha256 != image_sha256:
            return SourceSearch(is_missing=True)
        # A record must not raise the size limit that the user trusts.
        limit = config.source.max_megapixels if fetches else SourceConfig.max_megapixels
        source_config = replace(config.source, max_megapixels=min(config.source.max_megapixels, limit))
        size = open_source_size(path, source_config)
        window = lay_out(config.output, size, BOUNDARY_MODES[config.boundary.mode]).window
        return SourceSearch(wide_source(Path(path), sha256, source_config, window))
    except UserError:
        return SourceSearch(is_missing=True)
