"""The code of programs as XLA has just compiled them, or as JAX has read it from its cache on disk.

On CPUs an executable that was itself loaded does not serialize to all of its code: what is loaded from that fails when it
is called. So the bytes are taken on their way from and to JAX's cache. JAX has no public way to see them: without the
parts that are needed here, nothing is seen.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

from render.storage.program_files import remove_oldest
from render.system.paths import cache_directory

try:
    from jax._src import compilation_cache
# Another JAX has it elsewhere.
except ImportError:
    compilation_cache = None  # type: ignore[assignment]

#: Most bytes of JAX's cache, which has no limit of its own; what was used least recently is removed first.
MAX_CACHE_BYTES = 2 << 30
#: Names of JAX's entries, and how many a process writes between two looks at the size of all.
_ENTRY = re.compile(r".+-[0-9a-f]{64}-cache")
_WRITES_BETWEEN = 50


class CodeSeen:
    """The last entry of JAX's cache that a thread has read or written."""

    def __init__(self) -> None:
        self.entry: bytes | None = None

    @property
    def code(self) -> bytes | None:
        """The code in the entry, which has its compile time before it; None if there is no entry."""
        if self.entry is None:
            return None
        return self._parts(self.entry)[0]

    @property
    def seconds(self) -> int:
        """Seconds that XLA took to compile it, in whole seconds, whenever that was; 0 if there is no entry."""
        return 0 if self.entry is None else self._parts(self.entry)[1]

    @staticmethod
    def _parts(entry: bytes) -> tuple[bytes, int]:
        code, seconds = compilation_cache.extract_executable_and_time(compilation_cache.decompress_executable(entry))
        return bytes(code), int(seconds)


_watchers = threading.local()


class _WatchedCache:
    """JAX's cache, which also shows its entries to the thread that reads or writes them, and has a limit."""

    def __init__(self, cache: Any, directory: Path, limit: int) -> None:
        self._cache = cache
        self._directory = directory
        self._limit = limit
        self._writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def get(self, key: str) -> bytes | None:
        """Return an entry, None if there is none."""
        entry: bytes | None = self._cache.get(key)
        if entry is not None:
            with suppress(OSError):
                # The time by which `remove_oldest` knows which entries are used.
                os.utime(self._directory / f"{key}-cache")
        _show(entry)
        return entry

    def put(self, key: str, value: bytes) -> None:
        """Add an entry."""
        _show(value)
        self._cache.put(key, value)
        if self._writes % _WRITES_BETWEEN == 0:
            remove_oldest(self._directory, lambda name: _ENTRY.fullmatch(name) is not None, self._limit)
        self._writes += 1


@contextmanager
def watched_compilation() -> Iterator[CodeSeen]:
    """Inside the context, see the code of the one program that this thread compiles."""
    _watch_cache()
    seen = _watchers.seen = CodeSeen()
    try:
        yield seen
    finally:
        _watchers.seen = None


def _show(entry: bytes | None) -> None:
    seen: CodeSeen | None = getattr(_watchers, "seen", None)
    if seen is not None and entry is not None:
        seen.entry = entry


def _watch_cache() -> None:
    """Have JAX's cache watched, from its first use on and if it has one."""
    needed = ("_cache", "_get_cache", "extract_executable_and_time", "decompress_executable")
    if not all(hasattr(compilation_cache, name) for name in needed):
        return
    cache = compilation_cache._get_cache(jax.local_devices()[0].client)
    if cache is not None and not isinstance(cache, _WatchedCache):
        directory = Path(str(jax.config.values["jax_compilation_cache_dir"]))
        # Only the user's cache of this program: another directory is somebody else's to keep small.
        limit = MAX_CACHE_BYTES if directory.parent == cache_directory() else sys.maxsize
        compilation_cache._cache = _WatchedCache(cache, directory, limit)  # type: ignore[assignment]
