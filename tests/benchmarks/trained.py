"""The weights that benchmarks run with: those that the tests have."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from render.networks.weights import Loaded, load

ROOT = Path(__file__).parents[2]
#: Kept outside the project, as `tests/conftest.py` says.
GOOGLENET = Path(os.environ.get("RENDER_SHARED", ROOT.parent / "shared")) / "weights" / "bvlc_googlenet.npz"


def missing(model: str) -> str | None:
    """Return what a model lacks to run on this machine, in words; None if it lacks nothing."""
    if model == "googlenet" and not GOOGLENET.exists():
        return f"googlenet is left out: it needs {GOOGLENET.name}, which is kept outside the project and is not here"
    return None


@cache
def trained(model: str) -> Loaded:
    """Return a model with its trained weights. Raise `UserError` if they cannot be fetched."""
    return load(model, GOOGLENET if model == "googlenet" else None)
