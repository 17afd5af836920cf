"""Storage in a directory: small files are written beside their name, flushed, and renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from render.storage.storage import Facts, Seen, Version


@dataclass(frozen=True)
class LocalStorage:
    """The directory `place`, which need not exist yet."""

    place: Path

    def load(self, name: str) -> tuple[bytes, Version]:
        return (self.place / name).read_bytes(), Version(None)

    def write(self, name: str, data: bytes, seen: Version | Seen = Seen.ANYTHING) -> Version:  # noqa: ARG002
        path = self.place / name
        temporary = path.with_name(f".{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
        sync(path.parent.parent)
        return Version(None)

    def write_file(self, name: str, path: Path) -> Facts:
        target = self.place / name
        _copy(path, target)
        return Facts(name, target.stat().st_size, _tag(target))

    def fetch(self, name: str, path: Path, known: Facts | None = None) -> None:  # noqa: ARG002
        _copy(self.place / name, path)

    def facts(self, name: str) -> Facts | None:
        path = self.place / name
        return Facts(name, path.stat().st_size, _tag(path)) if path.is_file() else None

    def children(self, prefix: str = "") -> list[str]:
        directory = self.place / prefix
        return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []

    def tree(self, prefix: str = "") -> Iterator[Facts]:
        root = self.place / prefix
        for path in sorted(root.rglob("*")):
            if path.is_file():
                yield Facts(path.relative_to(root).as_posix(), path.stat().st_size, _tag(path))

    def remove(self, name: str) -> None:
        (self.place / name).unlink(missing_ok=True)

    def remove_tree(self, prefix: str) -> None:
        shutil.rmtree(self.place / prefix, ignore_errors=True)

    def zarr(self, name: str, *, read_only: bool) -> Any:  # noqa: ARG002
        return str(self.place / name)


def sync(path: Path) -> None:
    """Returns when what a file holds, or which names a directory holds, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    with source.open("rb") as file, temporary.open("wb") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        os.fsync(copy.fileno())
    temporary.replace(target)


def _tag(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
