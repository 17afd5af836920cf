"""A distributed, exact, high-resolution DeepDream renderer.

In Python: `render.dream`, `render.plan`, `render.sweep`, `render.activations`, `render.models` and `render.Objective`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from render.system.version import __version__

if TYPE_CHECKING:
    from render.api.dreams import Result, dream, plan
    from render.api.grid import SweepResult, sweep
    from render.api.layers import LayerSummary, activations, models
    from render.api.objective import ObjectiveExpression as Objective

#: Module and object behind each public name. It is imported when it is first used: a worker's process needs none of them.
_PUBLIC = {
    "LayerSummary": ("layers", "LayerSummary"),
    "Objective": ("objective", "ObjectiveExpression"),
    "Result": ("dreams", "Result"),
    "SweepResult": ("grid", "SweepResult"),
    "activations": ("layers", "activations"),
    "dream": ("dreams", "dream"),
    "models": ("layers", "models"),
    "plan": ("dreams", "plan"),
    "sweep": ("grid", "sweep"),
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
    """Return a public name, imported now; raise `AttributeError` for any other."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'render' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(f"render.api.{module}"), attribute)
