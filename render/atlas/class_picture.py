"""The picture of one class in an atlas of classes, with what the network sees in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from render.atlas.atlas_directory import PAGE
from render.atlas.channel_atlas import draw_missing, picture_name
from render.atlas.subjects import subjects_of
from render.config.atlas_schema import AtlasConfig
from render.errors import UserError
from render.networks.classification import ProbeRecord
from render.storage.records import fits


def class_picture(config: AtlasConfig) -> tuple[dict[str, Any], list[Path]]:
    """Draw the class that a config names, unless its atlas has it; return its record, and the paths of picture and page.

    Raises:
        UserError: the network has no such class, or the atlas' record does not say what the network saw.
    """
    # A wrong class is refused before anything is fetched.
    subjects = subjects_of(config)
    directory = draw_missing(config, subjects)[0]
    name = picture_name(subjects.chosen[0])
    record = directory.pictures[name].get("sight")
    if not (isinstance(record, dict) and fits(record, ProbeRecord)):
        raise UserError(f"{directory.path} does not say what the network saw: fresh=true draws its pictures again")
    return record, [directory.path / name, directory.path / PAGE]
