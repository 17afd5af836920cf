"""Damage to files of a run, for tests of what notices it."""

from __future__ import annotations

from pathlib import Path


def damage(chunk: Path) -> None:
    """Turn a bit of a stored chunk of a canvas."""
    content = bytearray(chunk.read_bytes())
    content[1000] ^= 1
    chunk.write_bytes(content)
