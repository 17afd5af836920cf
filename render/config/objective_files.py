"""Files that the settings of an objective name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Keys of an objective that name files.
OBJECTIVE_FILE_KEYS = ("mask", "image", "guide", "texture", "direction")


def named_files(value: Any, key: str = "objective") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and name of every file in an objective's settings."""
    if isinstance(value, dict):
        for inner, part in value.items():
            if isinstance(part, str) and inner in OBJECTIVE_FILE_KEYS:
                yield f"{key}.{inner}", part
            yield from named_files(part, f"{key}.{inner}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from named_files(part, f"{key}[{number}]")


def without_directories(value: Any, key: str = "") -> Any:
    """Return an objective's settings with the directories removed from file names."""
    if isinstance(value, dict):
        return {inner: without_directories(part, inner) for inner, part in value.items()}
    if isinstance(value, list):
        return [without_directories(part) for part in value]
    return value.rpartition("/")[2] if isinstance(value, str) and key in OBJECTIVE_FILE_KEYS else value
