"""From the canvas in a run directory to the pictures that its config asks for."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from render import __version__
from render.canvas.export import Style, export
from render.canvas.metadata import Metadata
from render.canvas.picture import Encoding
from render.canvas.profile import Profile
from render.config import Config
from render.run_directory import RunDirectory

log = logging.getLogger(__name__)


def style_of(config: Config, profile: Profile, record: Mapping[str, Any]) -> Style:
    """How a run's pictures look and what they say, from its config and its `run.json`."""
    output = config.output
    return Style(
        bits=output.bits,
        profile=profile,
        encoding=Encoding(output.quality, output.compression),
        metadata=Metadata(settings_of(config, record), output.title, output.author, output.dpi),
    )


def settings_of(config: Config, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a picture's metadata says about how it was made."""
    final = record["plan"]["octaves"][-1]["grid"]
    return {
        **config.picture_settings(),
        "dreamed": record["objective"],
        "image_sha256": record["image_sha256"],
        "weights_sha256": record["weights_sha256"],
        # Where a seam would be, had tiles left one: the size of a tile, px.
        "tiles": {"rows": final["rows"]["tile"], "columns": final["columns"]["tile"]},
    }


def style_digest(style: Style, canvas: str) -> str:
    """The same for styles that make the same bytes of the canvas that `canvas` names: sha256, hex."""
    plain = asdict(style)
    for section in (plain["profile"], plain["metadata"]):
        for key, value in section.items():
            if isinstance(value, bytes):
                section[key] = hashlib.sha256(value).hexdigest()
    return hashlib.sha256(json.dumps([plain, canvas, __version__], sort_keys=True).encode()).hexdigest()


def make_pictures(
    directory: RunDirectory, config: Config, profile: Profile, say: Callable[[str], None] = lambda _line: None
) -> list[Path]:
    """Writes the pictures that are not in the run directory yet, hands out copies, and returns where they are.

    Called with the directory open. Raises what `export` raises.
    """
    style = style_of(config, profile, directory.record)
    canvas = directory.canvas()
    digest = style_digest(style, canvas.token)
    for target in directory.missing(digest):
        say(f"writing {target.path}")
        export(canvas, target.path, target.form, style)
        directory.add_picture(target, digest)
        log.info("written: %s", target.path)
    return directory.publish()
