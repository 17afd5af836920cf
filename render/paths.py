"""Where the program keeps things that outlive a run."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APPLICATION = "pareidolia"


def cache_directory() -> Path:
    """The user's cache for converted weights and compiled kernels; XDG_CACHE_HOME is honoured on every platform."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) / APPLICATION if base else Path(platformdirs.user_cache_dir(APPLICATION, appauthor=False))


def shipped_configs() -> Path:
    """The directory of root configs: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
