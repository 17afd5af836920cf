"""Inputs in object stores, copied once into the user's cache and then read as files."""

from __future__ import annotations

import logging
from pathlib import Path

from filelock import FileLock

from render.errors import StorageError, UserError
from render.storage.objects import ObjectStorage
from render.storage.url import last_name, url_digest

log = logging.getLogger(__name__)


def cache_input(url: str, key: str, cache: Path) -> Path:
    """Copy the object at a URL into a cache directory once, and return the file's path.

    Args:
        url: URL of the object.
        key: Config key for messages.
        cache: Cache directory; the file keeps its name, in a subdirectory named by URL, tag and size.

    Raises:
        UserError: There is no such object, or it cannot be copied.
    """
    parent, name = url.rpartition("/")[0], str(last_name(url))
    if "://" not in parent.rstrip("/") or not name:
        raise UserError(f"{key}={url}: it names a bucket: name an object in it")
    try:
        storage = ObjectStorage(parent)
        info = storage.info(name)
        if info is None:
            # Raises if the bucket itself is missing, which is the better message.
            storage.children()
            raise UserError(f"{key}={url}: there is no such object")
        path = cache / url_digest(f"{url} {info.tag} {info.size}") / name
        if path.is_file() and path.stat().st_size == info.size:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two runs may copy it at the same time.
        with FileLock(path.parent / ".lock"):
            if not (path.is_file() and path.stat().st_size == info.size):
                log.info("fetching %s, once: %.1f MB", url, info.size / 1e6)
                ObjectStorage(parent, patient=True).fetch(name, path, info)
        return path
    except StorageError as error:
        raise StorageError(f"{key}={url}: {error}") from None
    except OSError as error:
        raise UserError(f"{key}={url}: it cannot be kept in {cache} ({error.strerror}): free some space") from None
