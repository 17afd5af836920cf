"""A distributed, exact, high-resolution DeepDream renderer.

In Python: `render.dream`, `render.plan`, `render.sweep`, `render.activations`, `render.models` and `render.Objective`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from render.system.version import __version__

if TYPE_CHECKING:
    from render.api.grid import SweepResult, sweep
    from render.api.jobs import Result, dream, plan
    from render.api.layers import LayerSummary, activations, models
    from render.api.objective import Objective

#: Where each public name lies. It is imported when it is first used: a worker's process needs none of them.
_HOMES = {
    "LayerSummary": "layers",
    "Objective": "objective",
    "Result": "jobs",
    "SweepResult": "grid",
    "activations": "layers",
    "dream": "jobs",
    "models": "layers",
    "plan": "jobs",
    "sweep": "grid",
}

__all__ = [
    "LayerSummary",
    "Objective",
    "Result",
    "SweepResult",
    "__version__",
    "activations",
    "dream",
    "models",
    "plan",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'render' has no attribute {name!r}")
    return getattr(importlib.import_module(f"render.api.{_HOMES[name]}"), name)
