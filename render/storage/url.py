"""Names of places that are not on a file system of this machine."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from render.errors import UserError
from render.terminal.text import escaped

#: Object stores that a run can be kept in, and that pictures can be read from.
SCHEMES = ("s3", "gs", "az")
#: A directory on a file system, or a URL in an object store.
Place = Path | str
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(text: str) -> bool:
    """Whether the text names an object in an object store, such as `s3://bucket/dreams/poster`."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme in SCHEMES


def checked_url(text: str, key: str) -> str | None:
    """The URL without a slash at its end; None for what is a path. `UserError` that names `key` for what is neither."""
    if not _SCHEME.match(text):
        return None
    if not is_url(text):
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise UserError(f"{key}={text}: {text.partition('://')[0]}:// is not known: take {known} or a path")
    bucket, *parts = text.partition("://")[2].rstrip("/").split("/")
    if not bucket:
        raise UserError(f"{key}={text}: it names no bucket: write it as {text.partition('://')[0]}://bucket/name")
    if escaped(text) != text or any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{key}={text}: not a name that an object can have")
    return text.rstrip("/")


def joined(place: Place, name: str) -> Place:
    """What has a name inside a place."""
    return place / name if isinstance(place, Path) else f"{place}/{name}"


def last_name(place: Place) -> str:
    """The name of a place inside the one that holds it."""
    return place.name if isinstance(place, Path) else place.rpartition("/")[2]


def url_digest(url: str) -> str:
    """A name for a file that has to do with a URL: 16 letters of its sha256."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]
