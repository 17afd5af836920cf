"""State of a cluster as a document: its nodes or pods, and its jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from render.job.progress import duration_text
from render.terminal.document import Column, Document, Record, Table

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails

_NODE_COLUMNS = (
    Column("node", lambda node: node["node"] + (" (head)" if node["is_head"] else "")),
    Column("CPUs", lambda node: f"{node['cpus']:g}", is_number=True),
    Column("GPUs", lambda node: f"{node['gpus']:g}", is_number=True),
    Column("TPUs", lambda node: f"{node['tpus']:g}", is_number=True),
    Column("memory", lambda node: f"{node['memory_bytes'] / 1e9:.0f} GB", is_number=True),
)
_JOB_COLUMNS = (
    Column("job", lambda job: job["job"]),
    Column("how", lambda job: job["state"]),
    Column("since", lambda job: _shown_time(job["started"])),
    Column("run directory", lambda job: job["directory"] or ""),
)
_POD_COLUMNS = (
    Column("pod", lambda pod: pod["pod"]),
    Column("how", lambda pod: pod["state"]),
    Column("ready", lambda pod: f"{pod['ready_containers']}/{pod['containers']}", is_number=True),
    Column("restarts", lambda pod: str(pod["restarts"]), is_number=True),
    Column("since", lambda pod: _shown_time(pod["created"])),
    Column("node", lambda pod: pod["node"] or ""),
)
_RAY_JOB_COLUMNS = (
    Column("job", lambda job: job["job"]),
    Column("how", lambda job: job["state"].lower()),
    Column("its cluster", lambda job: (job["cluster_state"] or "").lower()),
    Column("since", lambda job: _shown_time(job["started"])),
    Column("until", lambda job: _shown_time(job["ended"])),
)
_QUEUE_COLUMNS = (
    Column("job", lambda job: job["job"]),
    Column("name", lambda job: job["name"]),
    Column("how", lambda job: job["state"]),
    Column("for", lambda job: "" if job["elapsed_seconds"] is None else duration_text(job["elapsed_seconds"])),
    Column("nodes", lambda job: "" if job["nodes"] is None else str(job["nodes"]), is_number=True),
    Column("waits for", lambda job: job["reason"] or ""),
)


def cluster_document(word: str, kind: str) -> Document:
    """Return a document that says which cluster it is about, and nothing of it yet."""
    document = Document("cluster-status")
    document.values(cluster=word, kind=kind)
    return document


def add_pods(document: Document, pods: Sequence[Record]) -> None:
    """Add the pods of a cluster on Kubernetes."""
    _add(document, "pods", Table("", _POD_COLUMNS, pods))


def add_ray_jobs(document: Document, jobs: Sequence[Record]) -> None:
    """Add the RayJobs on Kubernetes."""
    _add(document, "jobs", Table("", _RAY_JOB_COLUMNS, jobs))


def add_queue(document: Document, jobs: Sequence[Record]) -> None:
    """Add the user's jobs in Slurm's queue."""
    _add(document, "jobs", Table("", _QUEUE_COLUMNS, jobs))


def add_ray(
    document: Document, word: str, version: str, nodes: Sequence[Mapping[str, Any]], jobs: Sequence[JobDetails]
) -> None:
    """Add what Ray says of its nodes, and the jobs that were sent to it."""
    document.sentence(f"{word}: Ray {version}, {len(nodes)} node{'s' * (len(nodes) != 1)}", ray=version)
    _add(document, "nodes", Table("", _NODE_COLUMNS, [_node_record(node) for node in nodes]))
    _add(document, "jobs", Table("", _JOB_COLUMNS, [_job_record(job) for job in jobs]))


def _add(document: Document, key: str, table: Table) -> None:
    """Add a table, or a sentence if it is empty."""
    if table.records:
        document.table(table, key=key)
    else:
        document.values(**{key: []})
        document.sentence(f"no {key}")


def _node_record(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of one of Ray's nodes."""
    resources = node["resources_total"]
    cpus, gpus, tpus = (resources.get(name, 0) for name in ("CPU", "GPU", "TPU"))
    return {
        "node": node["node_ip"], "is_head": bool(node["is_head_node"]), "cpus": cpus, "gpus": gpus, "tpus": tpus,
        "memory_bytes": round(resources.get("memory", 0)),
    }  # fmt: skip


def _job_record(job: JobDetails) -> dict[str, Any]:
    """Return the values of a job that was sent to Ray."""
    started = datetime.fromtimestamp(job.start_time / 1e3, UTC).isoformat(timespec="seconds") if job.start_time else None
    return {
        "job": job.submission_id, "state": job.status.lower(), "started": started,
        "directory": (job.metadata or {}).get("output"),
    }  # fmt: skip


def _shown_time(text: str | None) -> str:
    """Return date and minute of a time in ISO 8601 in the local time zone; empty for None."""
    try:
        return "" if text is None else datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return str(text)
