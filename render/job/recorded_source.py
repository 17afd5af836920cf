"""Source of a finished run, opened again from what the run recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from render.config.schema import Config, SourceConfig
from render.errors import UserError
from render.geometry.geometry import BOUNDARY_MODES
from render.planning.layout import lay_out
from render.source.source import Source, find_picture, open_source
from render.storage.url import checked_url


def reopen_source(config: Config, sha256: str | None, levels: Path, *, fetches: bool = False) -> Source | None:
    """Return the source of a finished run with the run's layout; None where it is gone or its content has changed.

    A record may come from an untrusted person: no URL in it is fetched, and a file is decoded only after its content is
    known to match the record. `levels` is a directory for the files of a source larger than memory. With `fetches`, the
    config is the user's own, and a source at a URL is read, too.
    """
    try:
        if config.image != "noise":
            if not fetches and checked_url(config.image, "image") is not None:
                return None
            if find_picture(config.image, "a path, sample:NAME or noise")[1] != sha256:
                return None
        # A record must not raise the size limit that the user trusts.
        megapixels = min(config.source.max_megapixels, SourceConfig.max_megapixels)
        source = open_source(config.image, config.seed, replace(config.source, max_megapixels=megapixels))
        layout = lay_out(config.output, source.size, BOUNDARY_MODES[config.boundary.mode])
    except UserError:
        return None
    return source.laid_out(layout.window, levels) if source.sha256 == sha256 else None
