"""The pictures that a job makes: names in the run directory, and places of copies."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from render.config.formats import FORMATS
from render.config.schema import OutputConfig, pictures
from render.errors import UserError
from render.storage.url import Place, checked_url, joined, last_name
from render.storage.user_paths import user_path
from render.system.machine import nearest

#: The directory of small pictures of octaves.
PREVIEWS = "previews"


@dataclass(frozen=True)
class Target:
    """A picture to make as `form` at `path`, in the run directory, with copies at `copies`.

    With `panels`, it is a directory of the picture's parts.
    """

    form: str
    path: Path
    copies: tuple[Place, ...] = ()
    panels: bool = False

    @property
    def is_directory(self) -> bool:
        """True if the picture is a directory of files."""
        return self.panels or FORMATS[self.form].directory


def targets(directory: Path, name: str, output: OutputConfig) -> tuple[Target, ...]:
    """Return the pictures that an output section asks for, that of `output.format` first.

    Each has copies at the paths of its format.
    """
    picture_targets = [
        Target(form, directory / f"{name}{FORMATS[form].ending}", tuple(_place(path, form) for path in paths))
        for form, paths in pictures(output).items()
    ]
    if output.panels.width_cm or output.panels.height_cm:
        picture_targets.append(Target(picture_targets[0].form, directory / f"{name}-panels", panels=True))
    return tuple(picture_targets)


def is_writable(directory: Path) -> bool:
    """Return whether this process may make files in a directory."""
    return directory.is_dir() and os.access(directory, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def refuse_unwritable(directory: Path) -> None:
    """Raise `UserError` if a directory cannot be created, or nothing can be written to it."""
    place = nearest(directory)
    if not is_writable(place):
        raise UserError(f"{directory} cannot be written to: choose another output.dir or output.path")


def probe_url(url: str) -> None:
    """Raise `StorageError` if nothing may be written below a URL."""
    from render.storage.objects import ObjectStorage
    from render.storage.write_probe import probe

    probe(ObjectStorage(url))


def _place(path: str, form: str) -> Place:
    """Return the place of a copy. A deep zoom picture is a directory, named without the suffix."""
    url = checked_url(path, "output.path")
    if url is not None:
        if "/" not in url.partition("://")[2]:
            raise UserError(f"output.path={url}: it names a bucket: name an object in it")
        return str(joined(url.rpartition("/")[0], Path(str(last_name(url))).stem)) if form == "dzi" else url
    local_path = user_path(path, "output.path")
    # A link is followed: its destination gets the picture, and the link stays.
    return Path(os.path.realpath(local_path.with_suffix("") if form == "dzi" else local_path))


def preview_path(directory: Path, octave: int) -> Path:
    """Return the path of the small picture of an octave.

    `octave` counts from 0, the number in the name from 1.
    """
    return directory / PREVIEWS / f"octave-{octave + 1}.png"
