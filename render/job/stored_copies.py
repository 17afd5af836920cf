"""Copies of pictures in object stores: what they may replace, and how they are sent.

The record of a run has an entry for each copy: `of`, the sha256 of the picture, and `stored`, the copy's identity in the
store; or `sending`, if the run may have ended while it sent the copy. Import this module late, because the client of object
stores is slow to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from render.errors import UserError
from render.storage.objects import ObjectStorage
from render.storage.stored_pictures import exists, foreign_object, is_stored, send_picture


def check_url(url: str, entry: Mapping[str, Any], inputs: Iterable[tuple[str, str | None]], *, overwrite: bool) -> None:
    """Raise `UserError` if a URL is an input of the job, or its content must stay.

    Args:
        url: The copy's URL.
        entry: The copy's entry in the record; empty if there is none.
        inputs: Config keys and places of the job's inputs.
        overwrite: Whether pictures of other runs may be replaced.
    """
    for key, place in inputs:
        if place == url:
            raise UserError(f"output.path={url} is the {key} itself: choose another output.path")
    storage, name = _storage(url)
    if not exists(storage, name) or is_as_recorded(url, entry):
        return
    foreign_name = foreign_object(storage, name)
    if foreign_name is not None:
        raise UserError(
            f"{url} holds {foreign_name}, which is not as a run wrote it and is never replaced: choose another output.path"
        )
    is_partial = bool(entry.get("sending")) and next(storage.tree(name), None) is not None
    if not overwrite and not is_partial:
        raise UserError(f"{url} exists: choose another output.path, or overwrite=true to replace it")


def is_as_recorded(url: str, entry: Mapping[str, Any]) -> bool:
    """Return whether a copy is stored as its entry in the record says."""
    storage, name = _storage(url)
    return is_stored(storage, name, entry.get("stored"))


def send_copy(picture: Path, url: str) -> dict[str, Any]:
    """Send a picture, a file or a directory, to a URL, and return its identity there."""
    storage, name = _storage(url, patient=True)
    return send_picture(storage, name, picture)


def _storage(url: str, *, patient: bool = False) -> tuple[ObjectStorage, str]:
    """Return the storage of the objects beside a URL, and the URL's name in it."""
    parent, _, name = url.rpartition("/")
    return ObjectStorage(parent, patient=patient), name
