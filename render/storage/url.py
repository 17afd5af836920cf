"""Names of places that are not on a file system of this machine."""

from __future__ import annotations

#: Object stores that a run can be kept in, and that pictures can be read from.
SCHEMES = ("s3", "gs", "az")


def is_url(text: str) -> bool:
    """Whether the text names an object in an object store, such as `s3://bucket/dreams/poster`."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme in SCHEMES
