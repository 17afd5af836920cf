"""Paths and URLs as users write them, and what they name."""

from __future__ import annotations

from pathlib import Path

from render.errors import UserError
from render.storage.url import checked_url
from render.system.paths import cache_directory


def user_path(text: str, key: str) -> Path:
    """A path as the user wrote it, `~` expanded; `UserError` naming the config key where there can be no such path."""
    if checked_url(text, key) is not None:
        raise UserError(f"{key}={text}: this is kept on a disk alone: name a path")
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
    """Whether a text, recorded by anybody, names the very file at a path; False where it can name none."""
    try:
        return bool(text) and Path(str(text)).expanduser().samefile(path)
    except (OSError, RuntimeError, ValueError):
        return False


def input_path(text: str, key: str) -> Path:
    """A file to be read, as the user wrote it: a path as `user_path` takes it, or what a URL in an object store names.

    The latter is brought into the user's cache when it is first asked for, and again when it has changed there. Raises
    `UserError` that names the config key.
    """
    url = checked_url(text, key)
    if url is None:
        return user_path(text, key)
    # Whoever reads from no object store does not wait for its client.
    from render.storage.inputs import brought

    return brought(url, key, cache_directory() / "inputs")
