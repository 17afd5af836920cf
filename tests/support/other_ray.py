"""A render with a Ray whose private functions differ, for the test of the guards around them.

usage: python -m tests.support.other_ray KIND WORDS..., where WORDS are those of `python -m render`. The differences are
edits of Ray's source while it is imported, so that this Ray works as before with its own functions.
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

#: Edits of Ray's source, as pattern and replacement, for each kind of another Ray.
KINDS: dict[str, Sequence[tuple[str, str]]] = {
    # Functions have other names.
    "renamed": (
        (r"\b(start_api_server|start_monitor|start_log_monitor|get_dashboard_dependency_error)\b", r"\1_renamed"),
        (r"\b(print_to_stdstream|_global_node)\b", r"\1_renamed"),
        (r"(?m)(^def |services\.|node_info = )get_node\(", r"\1get_node_renamed("),
    ),
    # Functions have one more parameter.
    "extended": (
        (r"(def (?:start_monitor|start_log_monitor)\(self)\)", r"\1, mode=None)"),
        (r"(def start_api_server\(\s+self, \*,)", r"\1 mode=None,"),
        (r"def get_dashboard_dependency_error\(\)", "def get_dashboard_dependency_error(mode=None)"),
        (r"def get_node\(gcs_address, node_id\)", "def get_node(gcs_address, node_id, mode=None)"),
        (r"def print_to_stdstream\(data,", "def print_to_stdstream(data, *, mode=None,"),
    ),
    # What the replacements use has other names, so that they fail inside.
    "failing": ((r"\b(_initialize_global_state|all_processes)\b", r"\1_renamed"),),
    # Ray does not start without the processes that are left out.
    "demanding": (
        (
            r"(raise_on_failure=raise_on_api_server_failure,\n        \))",
            r"\1\n        assert 'dashboard' in self.all_processes, 'no API server'",
        ),
    ),
    # Ray is as it is, and nothing in it is replaced.
    "unpatched": (),
}


class EditedLoader(SourceFileLoader):
    """Loader that edits a module's source."""

    edits: Sequence[tuple[str, str]] = ()

    def path_stats(self, path: str) -> Any:
        """Raise OSError, so that no compiled module is read or written."""
        raise OSError

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        """Compile the edited source."""
        return super().source_to_code(edited(bytes(data).decode(), self.edits), path)


class EditingFinder:
    """Finder of Ray's modules whose source the edits change."""

    def __init__(self, edits: Sequence[tuple[str, str]]) -> None:
        """Store the edits."""
        self.edits = edits

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        """Return the specification of a changed module, and None for all others."""
        if name.partition(".")[0] != "ray":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        source = Path(spec.loader.path).read_text()
        if edited(source, self.edits) == source:
            return None
        loader = EditedLoader(spec.loader.name, spec.loader.path)
        loader.edits = self.edits
        spec.loader = loader
        return spec


def edited(source: str, edits: Sequence[tuple[str, str]]) -> str:
    """Return the source after all edits."""
    for pattern, replacement in edits:
        source = re.sub(pattern, replacement, source)
    return source


def main(kind: str, *words: str) -> None:
    """Run the command line with another Ray."""
    finder: Any = EditingFinder(KINDS[kind])
    sys.meta_path.insert(0, finder)
    if kind == "unpatched":
        from render.farm.ray import node, startup

        nothing: Callable[..., Any] = lambda **_: nullcontext()  # noqa: E731
        node.quick_start = nothing  # type: ignore[attr-defined]
        startup.log_worker_output = lambda: None  # type: ignore[attr-defined]
    sys.argv = ["render", *words]
    runpy.run_module("render", run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
