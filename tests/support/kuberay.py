"""KubeRay's resources: what their schemas refuse in a manifest, by version, and the pods that the operator makes."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

SCHEMAS = Path(__file__).parents[3] / "shared" / "schemas"
#: Versions of KubeRay, the oldest first. The schemas are of the last one.
VERSIONS = ("1.5", "1.6", "1.7")
#: Fields of a RayCluster's spec that came with a version after the first.
_LATER_CLUSTER_FIELDS = {
    "1.6": ("authOptions.secretName", "authOptions.enableK8sTokenAuth"),
    "1.7": (
        "networkPolicy", "tlsOptions", "historyServerOptions", "gcsFaultToleranceOptions.backend",
        "gcsFaultToleranceOptions.storage",
    ),
}  # fmt: skip
_LATER_JOB_FIELDS = {"1.7": ("preRunningDeadlineSeconds",)}
#: Maps of the user's own keys, in which nothing is misspelt.
_FREE_MAPS = ("requests", "limits", "nodeSelector", "annotations", "labels", "rayStartParams")


def complaints(manifest: dict[str, Any], version: str = VERSIONS[-1]) -> list[str]:
    """Return what a version of KubeRay refuses in a RayCluster or RayJob: unknown fields, else wrong values.

    The API server drops unknown fields of such resources without a word; `kubectl` warns of them.
    """
    if not SCHEMAS.is_dir():
        pytest.skip(f"KubeRay's schemas are not at {SCHEMAS}")
    schema = _schema(manifest.get("kind", "RayCluster"), version)
    # Looked for first, because that is quick.
    unknown = _unknown_fields(schema, manifest)
    return unknown or [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest)]


@functools.cache
def _schema(kind: str, version: str) -> dict[str, Any]:
    schema = json.loads((SCHEMAS / f"{kind.lower()}s.v1.json").read_text())
    spec = schema["properties"]["spec"]
    cluster = spec["properties"].get("rayClusterSpec", spec)
    for later in VERSIONS[VERSIONS.index(version) + 1 :]:
        for field in _LATER_CLUSTER_FIELDS.get(later, ()):
            _remove(cluster, field)
        for field in _LATER_JOB_FIELDS.get(later, ()) if kind == "RayJob" else ():
            _remove(spec, field)
    metadata = {"properties": {key: {} for key in ("name", "annotations", "labels", "namespace")}}
    schema["properties"]["metadata"] = metadata
    return schema


def _remove(schema: dict[str, Any], field: str) -> None:
    *parents, last = field.split(".")
    for parent in parents:
        schema = schema["properties"][parent]
    del schema["properties"][last]


def _unknown_fields(schema: dict[str, Any], value: Any, path: str = "") -> list[str]:
    if isinstance(value, list):
        return [field for item in value for field in _unknown_fields(schema.get("items", {}), item, f"{path}[]")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    properties, free = schema["properties"], schema.get("x-kubernetes-preserve-unknown-fields", False)
    return [
        field
        for key, item in value.items()
        for field in (
            _unknown_fields(properties[key], item, f"{path}.{key}")
            if key in properties
            else []
            if free
            else [f"{path}.{key}"]
        )
    ]


def field_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every field of a manifest, except in maps of the user's own keys."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _FREE_MAPS:
                yield (*path, key)
                yield from field_paths(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from field_paths(item, (*path, position))


def cluster_spec(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of the RayCluster in a RayCluster or RayJob."""
    spec = manifest["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the specs of all pods that the operator makes of a manifest, with the containers that it adds to them.

    The autoscaler beside the head has the security context in autoscalerOptions; the container that waits for the head
    before a worker has the worker's.
    """
    cluster = cluster_spec(manifest)
    head = deepcopy(cluster["headGroupSpec"]["template"]["spec"])
    if cluster.get("enableInTreeAutoscaling"):
        context = cluster.get("autoscalerOptions", {}).get("securityContext")
        head["containers"].append({"name": "autoscaler"} | ({"securityContext": context} if context else {}))
    specs = {"head": head}
    for group in cluster["workerGroupSpecs"]:
        worker = deepcopy(group["template"]["spec"])
        context = worker["containers"][0].get("securityContext")
        added = {"name": "wait-gcs-ready"} | ({"securityContext": context} if context else {})
        worker["initContainers"] = [*worker.get("initContainers", []), added]
        specs[group["groupName"]] = worker
    if manifest["kind"] == "RayJob" and manifest["spec"].get("submissionMode", "K8sJobMode") == "K8sJobMode":
        template = manifest["spec"].get("submitterPodTemplate")
        specs["submitter"] = template["spec"] if template else {"containers": [{"name": "ray-job-submitter"}]}
    return specs
