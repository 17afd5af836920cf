"""Pods and jobs of a cluster on Kubernetes, as kubectl describes them in JSON."""

from __future__ import annotations

from typing import Any, TypedDict

from render.cluster.cluster_files import KUBERNETES_JOB, Cluster
from render.cluster.tool_calls import last_line, output_of
from render.errors import UserError
from render.storage.records import MalformedRecord, WholeNumber, check_shape, parse_record


class _Metadata(TypedDict, total=False):
    name: str
    creationTimestamp: str
    deletionTimestamp: str


class _Waiting(TypedDict, total=False):
    reason: str


class _ContainerState(TypedDict, total=False):
    waiting: _Waiting | None


class _Container(TypedDict, total=False):
    ready: bool
    restartCount: WholeNumber
    state: _ContainerState


class _PodStatus(TypedDict, total=False):
    phase: str
    containerStatuses: list[_Container]


class _PodSpec(TypedDict, total=False):
    nodeName: str


class _Pod(TypedDict, total=False):
    metadata: _Metadata
    spec: _PodSpec
    status: _PodStatus


class _Pods(TypedDict):
    items: list[_Pod]


class _JobStatus(TypedDict, total=False):
    jobStatus: str
    jobDeploymentStatus: str
    startTime: str | None
    endTime: str | None


class _Job(TypedDict, total=False):
    metadata: _Metadata
    status: _JobStatus


class _Jobs(TypedDict):
    items: list[_Job]


def pods(cluster: Cluster, namespace: list[str]) -> list[dict[str, Any]]:
    """Return the cluster's pods: name, state, ready containers, containers, restarts, node and time of creation.

    Args:
        cluster: The cluster.
        namespace: Words of kubectl that choose its namespace.

    Raises:
        UserError: kubectl does not say.
    """
    name = cluster.document["metadata"]["name"]
    selector = "ray.io/originated-from-crd=RayJob" if cluster.kind == KUBERNETES_JOB else f"ray.io/cluster={name}"
    return [_pod_record(pod) for pod in _items(cluster, namespace, "pods", selector, _Pods)]


def jobs(cluster: Cluster, namespace: list[str], label: str) -> list[dict[str, Any]]:
    """Return the RayJobs that were sent from the cluster's file: name, states and times.

    Args:
        cluster: The cluster.
        namespace: Words of kubectl that choose its namespace.
        label: Label of RayJobs whose value is the name of the cluster.

    Raises:
        UserError: kubectl does not say.
    """
    selector = f"{label}={cluster.document['metadata']['name']}"
    records = []
    for job in _items(cluster, namespace, "rayjobs", selector, _Jobs):
        metadata, status = job.get("metadata", {}), job.get("status", {})
        records.append(
            {
                "job": metadata.get("name", ""), "state": status.get("jobStatus") or "waiting",
                "cluster_state": status.get("jobDeploymentStatus") or None,
                "started": status.get("startTime") or metadata.get("creationTimestamp"), "ended": status.get("endTime"),
            }
        )  # fmt: skip
    return records


def _items(cluster: Cluster, namespace: list[str], kind: str, selector: str, shape: Any) -> list[dict[str, Any]]:
    """Return the objects of a kind that kubectl lists."""
    result = output_of(["kubectl", *namespace, "get", kind, "--selector", selector, "--output", "json"])
    if result.returncode:
        raise UserError(f"cluster={cluster.word}: kubectl tells of no {kind} ({last_line(result.stderr)})")
    try:
        answer = parse_record(result.stdout.encode())
        check_shape(answer, shape)
    except MalformedRecord as error:
        raise UserError(f"cluster={cluster.word}: what kubectl tells of {kind} cannot be read: {error}") from None
    items: list[dict[str, Any]] = answer["items"]
    return items


def _pod_record(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a pod; what a container waits for is its state."""
    metadata, status = pod.get("metadata", {}), pod.get("status", {})
    containers = status.get("containerStatuses", [])
    waits = [(container.get("state", {}).get("waiting") or {}).get("reason") for container in containers]
    state = "Terminating" if "deletionTimestamp" in metadata else next(filter(None, waits), status.get("phase", "Unknown"))
    return {
        "pod": metadata.get("name", ""), "state": state, "containers": len(containers),
        "ready_containers": sum(container.get("ready", False) for container in containers),
        "restarts": sum(container.get("restartCount", 0) for container in containers),
        "node": pod.get("spec", {}).get("nodeName"), "created": metadata.get("creationTimestamp"),
    }  # fmt: skip
