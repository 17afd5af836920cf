"""Where a run keeps things: a directory or a prefix in an object store, behind the few calls that both can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from render.storage.url import Place


@dataclass(frozen=True)
class Facts:
    """What is known of an object without reading it: its name, its size in bytes, and a tag of its content."""

    name: str
    size: int
    tag: str


@dataclass(frozen=True)
class Version:
    """Which writing of an object was seen: its tag, and the store's own number of it where it counts them."""

    tag: str | None
    number: str | None = None


class Seen(Enum):
    """What a writer may expect of an object beside a `Version`: anything, or that there is none."""

    ANYTHING = "anything"
    NOTHING = "nothing"


class Storage(Protocol):
    """A place to keep things in, by names such as `canvas/manifest.json`.

    What cannot be reached, or may not be done, is a `StorageError` in an object store and an `OSError` on a file system.
    """

    @property
    def place(self) -> Place:
        """The directory or the URL."""

    def load(self, name: str) -> tuple[bytes, Version]:
        """Content, and which writing of it that is. Raises FileNotFoundError where there is none."""

    def write(self, name: str, data: bytes, seen: Version | Seen = Seen.ANYTHING) -> Version:
        """Writes something small, whole or not at all; returns when it will be there after a loss of power.

        In an object store, raises `Overtaken` where the object is not as `seen` says: a directory has its lock for that.
        """

    def write_file(self, name: str, path: Path) -> Facts:
        """Copies a file there, whole or not at all."""

    def fetch(self, name: str, path: Path, known: Facts | None = None) -> None:
        """Copies an object to a file, whole or not at all; `known` saves asking for its size."""

    def facts(self, name: str) -> Facts | None:
        """What is known of an object; None where there is none."""

    def children(self, prefix: str = "") -> list[str]:
        """The first parts of all names below a prefix, sorted."""

    def tree(self, prefix: str = "") -> Iterator[Facts]:
        """All objects below a prefix, by names that begin after it."""

    def remove(self, name: str) -> None:
        """Removes one object, or does nothing where there is none."""

    def remove_tree(self, prefix: str) -> None:
        """Removes all objects below a prefix."""

    def zarr(self, name: str, *, read_only: bool) -> Any:
        """What Zarr opens or makes an array in."""


def inner_name(name: str) -> str:
    """The same name, such as `canvas/manifest.json`; ValueError for what would lie outside of the place that it is in."""
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise ValueError(f"{name!r} is no name inside a directory")
    return name
