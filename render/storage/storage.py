"""Interface of the storage of a run: a directory, or a prefix in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from render.storage.url import Place


@dataclass(frozen=True)
class ObjectInfo:
    """Name, size in bytes and content tag of an object, available without reading it."""

    name: str
    size: int
    tag: str


@dataclass(frozen=True)
class Version:
    """Version of an object: its tag, and the version number of the store if the store has one."""

    tag: str | None
    number: str | None = None


class Precondition(Enum):
    """State that a writer requires of an object, instead of a `Version`.

    `ABSENT` requires that there is no such object.
    """

    ANY = "any"
    ABSENT = "absent"


class Storage(Protocol):
    """Objects at a place, with names such as `canvas/manifest.json`.

    Failures raise `StorageError` for an object store and `OSError` for a file system.
    """

    @property
    def place(self) -> Place:
        """Directory or URL."""

    def load(self, name: str) -> tuple[bytes, Version]:
        """Return the content of an object and its version.

        Raises:
            FileNotFoundError: There is none.
        """

    def write(self, name: str, data: bytes, expected: Version | Precondition = Precondition.ANY) -> Version:
        """Write a small object completely or not at all.

        After the return it survives a loss of power.

        An object store raises `Overtaken` if the object is not in the state `expected`. A directory ignores `expected`,
        because its lock keeps other writers out.
        """

    def write_file(self, name: str, path: Path) -> ObjectInfo:
        """Copy a file into the storage, completely or not at all."""

    def copy(self, name: str, target: str) -> None:
        """Give an object a second name, without transferring it where the storage can.

        Neither of the two may be changed in place afterwards.

        Raises:
            FileNotFoundError: There is none.
        """

    def fetch(self, name: str, path: Path, info: ObjectInfo | None = None) -> None:
        """Copy an object to a file, completely or not at all.

        With `info`, it need not be requested.
        """

    def info(self, name: str) -> ObjectInfo | None:
        """Return name, size and tag of an object; None if there is none."""

    def children(self, prefix: str = "") -> list[str]:
        """Return the first parts of all names below a prefix, sorted."""

    def tree(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the info of all objects below a prefix, with names relative to it."""

    def remove(self, name: str) -> None:
        """Remove an object; do nothing if there is none."""

    def remove_tree(self, prefix: str) -> None:
        """Remove all objects below a prefix."""

    def zarr(self, name: str, *, read_only: bool) -> Any:
        """Return the Zarr store in which an array is opened or created."""


def inner_name(name: str) -> str:
    """Return the name, such as `canvas/manifest.json`, unchanged.

    Raises:
        ValueError: It leads outside of its place.
    """
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise ValueError(f"{name!r} is no name inside a directory")
    return name
