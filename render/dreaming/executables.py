"""Executables of a process: each is made once, by loading it from the user's cache, or by tracing and compiling.

Any thread may ask for one. A thread that makes them ahead of their use (see `Executables.ahead`) and the one that uses them
share the work: whoever comes second waits for the first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax

from render.dreaming.compiled_code import watched_compilation
from render.dreaming.serialized import (
    ProgramMemory,
    deserialize,
    digest,
    environment_digest,
    memory_of,
    serialize,
    stored_memory,
)
from render.networks.platforms import platform
from render.storage.program_files import ProgramFiles
from render.system.surroundings import devices_environment

#: Function that returns a program and the arguments to compile it for.
Build = Callable[[], tuple[jax.stages.Wrapped, tuple[Any, ...]]]


class _CacheHits:
    """Number of times that JAX has found a compiled program in its own cache on disk."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_listener(self._on_event)

    def _on_event(self, event: str, **_details: object) -> None:
        self.count += event == "/jax/compilation_cache/cache_hits"


_cache_hits = _CacheHits()


@dataclass
class ExecutableCounts:
    """Costs of the executables of a process so far.

    Attributes:
        loaded: Number that were loaded from our own files, without tracing.
        traced: Number that were traced, whether XLA then compiled them or JAX had them in its cache.
        compiled: Number that XLA compiled.
        seconds: Seconds that all of them took.
        waited: Seconds of it for which the work that needs them had to wait.
    """

    loaded: int = 0
    traced: int = 0
    compiled: int = 0
    seconds: float = 0.0
    waited: float = 0.0


class Executables:
    """Executables by key, shared by the threads of a process."""

    def __init__(self, identity: Sequence[object], files: ProgramFiles | None = None) -> None:
        """Store the settings; nothing is loaded or compiled yet.

        Args:
            identity: All that the programs depend on besides their keys and arguments, as values with a stable `repr`.
            files: Programs on disk; None keeps none there.
        """
        self._files = files
        self._identity = digest(*identity)
        # The address of an object would make every process' key another one. Without the compiler's flags there is no key.
        if " at 0x" in repr(identity) or devices_environment() is None:
            self._files = None
        #: What they have cost.
        self.counts = ExecutableCounts()
        #: Seconds that each took to load or to compile, by key.
        self.seconds: dict[object, float] = {}
        self._lock = threading.Lock()
        self._futures: dict[object, Future[jax.stages.Compiled]] = {}
        self._thread = threading.local()

    def get(self, key: object, build: Build) -> jax.stages.Compiled:
        """Return the executable of a program. The first call for a key loads or compiles it.

        Args:
            key: Key of the program, of values with a stable `repr`.
            build: Function that returns the program and the arguments to compile it for. It traces nothing itself.
        """
        future = self._futures.get(key)
        if future is not None and future.done() and future.exception() is None:
            return future.result()
        start = time.perf_counter()
        try:
            with self._lock:
                future = self._futures.get(key)
                makes = future is None
                if future is None:
                    future = self._futures[key] = Future()
            if makes:
                self._make(key, build, future)
            return future.result()
        finally:
            if not self._works_ahead:
                self._count(waited=time.perf_counter() - start)

    def memory(self, key: object, build: Build) -> ProgramMemory:
        """Return a program's memory. A program in the user's cache is not loaded for that; any other is compiled."""
        future = self._futures.get(key)
        if future is None and self._files is not None:
            stored = self._files.read(self._file_key(key, build()[1]))
            memory = stored_memory(stored) if stored is not None else None
            if memory is not None:
                return memory
        return memory_of(self.get(key, build))

    def is_ready(self, key: object, build: Build) -> tuple[bool, float | None]:
        """Return whether a program need not be compiled, and the seconds that compiling it takes; None if not known."""
        future = self._futures.get(key)
        stored = self._files.read(self._file_key(key, build()[1])) if self._files is not None else None
        seconds = stored.facts.get("seconds") if stored is not None else self.seconds.get(key)
        is_made = stored is not None or (future is not None and future.done())
        return is_made, float(seconds) if isinstance(seconds, int | float) else None

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Inside the context, this thread makes executables ahead of their use, and the time counts as nobody's wait."""
        self._thread.works_ahead = True
        try:
            yield
        finally:
            self._thread.works_ahead = False

    @property
    def _works_ahead(self) -> bool:
        """True inside `ahead`."""
        return getattr(self._thread, "works_ahead", False)

    def _count(self, **amounts: float) -> None:
        """Add to the counts."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self.counts, name, getattr(self.counts, name) + amount)

    def _make(self, key: object, build: Build, future: Future[jax.stages.Compiled]) -> None:
        """Load or compile a program into its future; forget the future if that fails, so that a later call tries again."""
        start = time.perf_counter()
        try:
            executable = self._load_or_compile(key, build)
        except BaseException as error:
            with self._lock:
                del self._futures[key]
            future.set_exception(error)
            return
        self.seconds[key] = time.perf_counter() - start
        self._count(seconds=self.seconds[key])
        future.set_result(executable)

    def _load_or_compile(self, key: object, build: Build) -> jax.stages.Compiled:
        program, arguments = build()
        file_key = self._file_key(key, arguments) if self._files is not None else ""
        stored = self._files.read(file_key) if self._files is not None else None
        executable = deserialize(stored, arguments) if stored is not None else None
        if executable is not None:
            self._count(loaded=1)
            return executable
        start, hits = time.perf_counter(), _cache_hits.count
        with watched_compilation() as seen:
            lowered = program.lower(*arguments)
            traced = time.perf_counter() - start
            executable = lowered.compile()
        is_compiled = _cache_hits.count == hits
        self._count(traced=1, compiled=is_compiled)
        if self._files is not None and seen.code is not None:
            seconds = time.perf_counter() - start if is_compiled else traced + seen.seconds
            serialized = serialize(executable, seen.code, seconds)
            if serialized is not None:
                self._files.write(file_key, serialized)
        return executable

    def _file_key(self, key: object, arguments: tuple[Any, ...]) -> str:
        """Return the digest of all that a program depends on."""
        leaves, tree = jax.tree.flatten(arguments)
        shapes = [(leaf.shape, str(leaf.dtype)) for leaf in leaves]
        return digest(environment_digest(), self._identity, platform(), key, str(tree), shapes)
