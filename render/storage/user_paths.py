"""Conversion of paths and URLs in the config to paths of files."""

from __future__ import annotations

from pathlib import Path

from render.errors import UserError
from render.storage.url import checked_url
from render.system.paths import cache_directory


def user_path(text: str, key: str) -> Path:
    """Return a path from the user with `~` expanded.

    Raises:
        UserError: It is invalid; the message names the config key.
    """
    if checked_url(text, key) is not None:
        raise UserError(f"{key}={text}: this must be on a disk: name a path")
    try:
        path = Path(text).expanduser()
        path.exists()
    except RuntimeError:
        raise UserError(f"{key}={text}: there is no such user") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a name that a file can have"
        raise UserError(f"{key}={text}: {reason}") from None
    return path


def is_same_file(text: str | None, path: Path) -> bool:
    """Return whether a recorded text names the same file as a path.

    The text need not be a valid path.
    """
    try:
        return bool(text) and Path(str(text)).expanduser().samefile(path)
    except (OSError, RuntimeError, ValueError):
        return False


def input_path(text: str, key: str) -> Path:
    """Return the path of an input file from the user's path or URL in an object store.

    For paths see `user_path`.

    An object is copied into the user's cache at its first use, and again after it has changed in the store.

    Raises:
        UserError: The path or URL is invalid, or the object cannot be copied; the message names the config key.
    """
    url = checked_url(text, key)
    if url is None:
        return user_path(text, key)
    # Imported only when needed, because the client of object stores is slow to import.
    from render.storage.inputs import cache_input

    return cache_input(url, key, cache_directory() / "inputs")
