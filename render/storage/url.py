"""URLs of objects in object stores, and places that are either a path or a URL."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from render.errors import UserError
from render.terminal.text import escaped

#: URL schemes of the object stores that can hold runs and input pictures.
SCHEMES = ("s3", "gs", "az")
#: Directory on a file system, or URL in an object store.
Place = Path | str
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(text: str) -> bool:
    """Return whether the text is a URL in an object store, such as `s3://bucket/dreams/poster`."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme in SCHEMES


def checked_url(text: str, key: str) -> str | None:
    """Return the URL without a final slash; None for a path.

    Raises:
        UserError: The text is a URL, but not a valid one in a supported object store; the message names `key`.
    """
    if not _SCHEME.match(text):
        return None
    if not is_url(text):
        schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise UserError(f"{key}={text}: {text.partition('://')[0]}:// is not known: take {schemes} or a path")
    bucket, *parts = text.partition("://")[2].rstrip("/").split("/")
    if not bucket:
        raise UserError(f"{key}={text}: it names no bucket: write it as {text.partition('://')[0]}://bucket/name")
    if escaped(text) != text or any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{key}={text}: not a name that an object can have")
    return text.rstrip("/")


def joined(place: Place, name: str) -> Place:
    """Return the place with a name inside a place."""
    return place / name if isinstance(place, Path) else f"{place}/{name}"


def last_name(place: Place) -> str:
    """Return the last part of the name of a place."""
    return place.name if isinstance(place, Path) else place.rpartition("/")[2]


def url_digest(url: str) -> str:
    """Return a file name for a URL: the first 16 hex digits of its sha256."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]
