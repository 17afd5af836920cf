"""ICC profiles for tests: spaces of RGB, and device links."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np

from render.source.matrix_profile import matrix_profile

#: White, red, green and blue, and the gamma, as their standards have them: Adobe RGB (1998), ISO 22028-2, SMPTE EG 432-1.
SPACES = {
    "adobe": ((0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256),
    "prophoto": ((0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), 1.8),
    "p3-gamma": ((0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), 2.2),
}
#: Levels of each channel in a link's table.
_GRID = 9


def rgb_profile(name: str) -> bytes:
    """The profile of a space in `SPACES`."""
    return matrix_profile(name, *SPACES[name])


def black_only_link(most: float = 1.0) -> bytes:
    """A device link from RGB to CMYK whose black takes all grey, and at most `most` (0..1) of each (ICC.1:2022, 10.10)."""
    levels = np.array(list(product(np.linspace(0, 1, _GRID), repeat=3)))
    black = 1 - levels.max(axis=1, keepdims=True)
    inks = np.concatenate([1 - levels - black, black], axis=1) * most
    ramp = np.linspace(0, 255, 256).astype(np.uint8).tobytes()
    identity = struct.pack(">9i", *(np.eye(3, dtype=int) * 65536).ravel())
    table = struct.pack(">4sIBBBx", b"mft1", 0, 3, 4, _GRID) + identity + ramp * 3
    table += np.rint(inks * 255).astype(np.uint8).tobytes() + ramp * 4
    header = struct.pack(">I4xI4s4s4s", 144 + len(table), 0x02400000, b"link", b"RGB ", b"CMYK")
    header += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp")
    return header.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table
