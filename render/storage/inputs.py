"""Inputs in object stores: brought once into the user's cache, and from there on files like all others."""

from __future__ import annotations

import logging
from pathlib import Path

from filelock import FileLock

from render.errors import StorageError, UserError
from render.storage.objects import ObjectStorage
from render.storage.url import last_name, url_digest

log = logging.getLogger(__name__)


def brought(url: str, key: str, cache: Path) -> Path:
    """The object at a URL as a file in the directory `cache`, under its own name in a directory of its URL and tag.

    Raises `UserError` that names `key` where there is no such object, or where it cannot be had.
    """
    parent, name = url.rpartition("/")[0], str(last_name(url))
    if "://" not in parent.rstrip("/") or not name:
        raise UserError(f"{key}={url}: it names a bucket: name an object in it")
    try:
        storage = ObjectStorage(parent)
        known = storage.facts(name)
        if known is None:
            # Where there is no bucket either, that is what must be said.
            storage.children()
            raise UserError(f"{key}={url}: there is no such object")
        path = cache / url_digest(f"{url} {known.tag} {known.size}") / name
        if path.is_file() and path.stat().st_size == known.size:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two runs may want it at once.
        with FileLock(path.parent / ".lock"):
            if not (path.is_file() and path.stat().st_size == known.size):
                log.info("bringing %s, once: %.1f MB", url, known.size / 1e6)
                ObjectStorage(parent, patient=True).fetch(name, path, known)
        return path
    except StorageError as error:
        raise StorageError(f"{key}={url}: {error}") from None
    except OSError as error:
        raise UserError(f"{key}={url}: it cannot be kept in {cache} ({error.strerror}): free some space") from None
