"""Kustomize directories: the shipped overlays and parts, and their manifests, rendered by `kubectl kustomize`."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from render.cluster.tool_calls import last_line, output_of
from render.config.yaml_files import UnsafeYaml, load_all_yaml
from render.errors import UserError
from render.system.paths import shipped_clusters

_FILE = "kustomization.yaml"
#: Longest time to render a directory, whose bases may be fetched from elsewhere, s.
_MAX_RENDER_S = 120.0


def is_kustomization(directory: Path) -> bool:
    """Return whether Kustomize can render a directory."""
    return (directory / _FILE).is_file()


def overlays() -> dict[str, Path]:
    """Return the shipped directories that each describe a cluster, by name."""
    return _directories("overlays")


def parts() -> dict[str, Path]:
    """Return the shipped components that any cluster may have besides, by name."""
    return _directories("parts")


def _directories(kind: str) -> dict[str, Path]:
    directories = sorted((shipped_clusters() / "kubernetes" / kind).glob("*"))
    return {path.name: path for path in directories if is_kustomization(path)}


def check_parts(names: Sequence[str]) -> None:
    """Raise `UserError` for a name in `parts=` that no shipped part has."""
    available = parts()
    for name in names:
        if name not in available:
            matches = difflib.get_close_matches(name, available, n=1)
            hint = f"did you mean {matches[0]}? " if matches else ""
            raise UserError(f"parts={','.join(names)}: there is no part {name!r}: {hint}there are {', '.join(available)}")


def rendered(word: str, directory: Path, part_names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the manifests of a directory with parts.

    Args:
        word: The user's name for the cluster, for messages.
        directory: A directory with a kustomization.yaml.
        part_names: Names of shipped parts.

    Raises:
        UserError: kubectl is missing, or cannot render the directory.
    """
    if shutil.which("kubectl") is None:
        raise UserError(
            f"cluster={word} needs kubectl, which is not on this machine: install it (kubernetes.io/docs/tasks/tools)"
        )
    available = parts()
    components = [available[name] for name in part_names]
    with tempfile.TemporaryDirectory(prefix="render-kustomize-") as temporary:
        # Kustomize takes paths that are relative to the real path of the file that has them.
        top = Path(temporary).resolve()
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(directory.resolve(), top)],
            "components": [os.path.relpath(path.resolve(), top) for path in components],
        }
        (top / _FILE).write_text(json.dumps(kustomization), encoding="utf-8")
        result = output_of(["kubectl", "kustomize", top], timeout_s=_MAX_RENDER_S)
    if result.returncode:
        reason = last_line(result.stderr).removeprefix("error: ")
        raise UserError(f"cluster={word} cannot be rendered by kubectl kustomize, which must be 1.27 or newer ({reason})")
    try:
        documents = load_all_yaml(result.stdout)
    except UnsafeYaml as error:
        raise UserError(f"cluster={word} cannot be read: {error}") from None
    return [document for document in documents if isinstance(document, dict)]
