"""The memory of a process that lives for many jobs."""

from __future__ import annotations

import platform

import psutil
import pytest

from render.system.machine import trim_heap


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_between_blocks_in_use_goes_back_to_the_system() -> None:
    process = psutil.Process()
    # Above the size that Python allocates by itself, and below that for which malloc maps memory of its own.
    blocks: list[bytes | None] = [bytes(10_000) for _ in range(30_000)]
    in_use = process.memory_info().rss
    blocks[:] = [block if number % 30 == 0 else None for number, block in enumerate(blocks)]
    trim_heap()
    assert process.memory_info().rss < in_use - 150_000_000
    assert blocks[0] is not None
