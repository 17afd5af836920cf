"""Clusters of KubeRay: a RayCluster, which takes jobs, or a RayJob, a cluster for one job."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml  # type: ignore[import-untyped]

from render.cluster.access import local_token
from render.cluster.cluster_files import DASHBOARD_PORT, KUBERNETES_JOB, Cluster, job_words
from render.cluster.dashboard import Dashboard
from render.cluster.tools import last_line, output_of, run
from render.cluster.tunnel import forwarded
from render.errors import UserError

#: Annotation with farm settings for jobs that do not set them.
SUBMIT_ANNOTATION = "pareidolia/submit"
#: Label of RayJobs: the metadata.name in the cluster's file.
_LABEL = "pareidolia/cluster"
_TOKEN_KEY = "auth_token"


def up(cluster: Cluster, container: str) -> None:
    """Apply the file, with `container` as the image of its containers unless it is empty."""
    documents = [part for part in yaml.safe_load_all(cluster.path.read_text(encoding="utf-8")) if part]
    run(["kubectl", "apply", "-f", "-"], stdin=yaml.safe_dump_all(_with_image(documents, container)))


def down(cluster: Cluster) -> None:
    """Delete what the file describes; for a RayJob, also its jobs."""
    if cluster.kind == KUBERNETES_JOB:
        selector = f"{_LABEL}={cluster.document['metadata']['name']}"
        run(["kubectl", *_namespace(cluster), "delete", "rayjobs", "--selector", selector])
    run(["kubectl", "delete", "--ignore-not-found", "-f", cluster.path])


def pods(cluster: Cluster) -> str:
    """Return kubectl's table of the cluster's pods."""
    name = cluster.document["metadata"]["name"]
    selector = "ray.io/originated-from-crd=RayJob" if cluster.kind == KUBERNETES_JOB else f"ray.io/cluster={name}"
    result = output_of(["kubectl", *_namespace(cluster), "get", "pods", "--selector", selector, "--output", "wide"])
    if result.returncode:
        raise UserError(f"cluster={cluster.word}: kubectl tells of no pods ({last_line(result.stderr)})")
    return result.stdout


def job_list(cluster: Cluster) -> str:
    """Return kubectl's table of the RayJobs that were sent from the cluster's file."""
    selector = f"{_LABEL}={cluster.document['metadata']['name']}"
    result = output_of(["kubectl", *_namespace(cluster), "get", "rayjobs", "--selector", selector])
    if result.returncode:
        raise UserError(f"cluster={cluster.word}: kubectl tells of no jobs ({last_line(result.stderr)})")
    return result.stdout


@contextmanager
def reached(cluster: Cluster, job: str = "") -> Iterator[Dashboard]:
    """Yield the head's dashboard, reached by kubectl; `job` is the RayJob that owns the cluster."""
    name = _ray_cluster(cluster, job or cluster.document["metadata"]["name"])
    service = f"service/{name}-head-svc"

    def forward_command(port: int) -> list[str]:
        """Return the command that forwards the dashboard to a port of this machine."""
        forward = ["port-forward", "--address", "127.0.0.1", service, f"{port}:{DASHBOARD_PORT}"]
        return ["kubectl", *_namespace(cluster), *forward]

    with forwarded(forward_command, cluster.word) as url:
        yield Dashboard(cluster.word, url, _token(cluster, name)).greeted()


def submit_words(cluster: Cluster) -> list[str]:
    """Return the farm settings in the cluster's file, for jobs that do not set them."""
    if cluster.kind == KUBERNETES_JOB:
        try:
            words = shlex.split(str(cluster.document["spec"].get("entrypoint") or ""))
        except ValueError as error:
            raise UserError(f"{cluster.path}: spec.entrypoint is no command of a shell ({str(error).lower()})") from None
        return [word for word in words if word.startswith("farm.") and not word.startswith("farm.address=")]
    annotations = cluster.document["metadata"].get("annotations") or {}
    try:
        annotated_words: object = json.loads(annotations.get(SUBMIT_ANNOTATION, "[]"))
    except (AttributeError, TypeError, ValueError):
        annotated_words = None
    return job_words(cluster, f"the annotation {SUBMIT_ANNOTATION}", annotated_words)


def send_job(
    cluster: Cluster, job: str, words: Sequence[str], environment: dict[str, str], resubmit_command: str, container: str
) -> None:
    """Make a RayJob, which renders on a cluster of its own and removes that cluster afterwards.

    Args:
        cluster: The cluster whose file describes the RayJob.
        job: Name of the RayJob.
        words: Arguments of the render command.
        environment: Environment variables of the job.
        resubmit_command: Command that sends the same job once more.
        container: Image of the containers; empty keeps the file's.
    """
    (document,) = _with_image([cluster.document], container)
    metadata, spec = document["metadata"], document["spec"]
    runtime = yaml.safe_load(spec.get("runtimeEnvYAML") or "{}")
    runtime["env_vars"] = {**runtime.get("env_vars", {}), **environment}
    document["metadata"] = {**metadata, "name": job, "labels": {**(metadata.get("labels") or {}), _LABEL: metadata["name"]}}
    document["spec"] = {
        **spec,
        "entrypoint": shlex.join(["python", "-m", "render", "render", *words]),
        "jobId": job,
        "metadata": {"again": resubmit_command},
        "runtimeEnvYAML": yaml.safe_dump(runtime),
    }
    result = output_of(["kubectl", *_namespace(cluster), "create", "-f", "-"], stdin=yaml.safe_dump(document))
    if result.returncode:
        raise UserError(f"cluster={cluster.word}: kubectl does not take the job ({last_line(result.stderr)})")


def _with_image(value: Any, container: str) -> Any:
    """Return a copy of a document with `container`, unless empty, as image of its containers."""
    if isinstance(value, list):
        return [_with_image(part, container) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        key: container if container and key == "image" and isinstance(part, str) else _with_image(part, container)
        for key, part in value.items()
    }


def _ray_cluster(cluster: Cluster, name: str) -> str:
    """Return the name of the RayCluster: `name` itself, or that of the RayJob `name`."""
    if cluster.kind != KUBERNETES_JOB:
        return name
    path = "jsonpath={.status.rayClusterName}"
    result = output_of(["kubectl", *_namespace(cluster), "get", "rayjob", name, "--output", path])
    if result.returncode or not result.stdout.strip():
        reason = last_line(result.stderr) if result.returncode else "it has no cluster yet, or no more"
        raise UserError(f"cluster={cluster.word}: there is no cluster of the RayJob {name} ({reason})")
    return result.stdout.strip()


def _token(cluster: Cluster, name: str) -> str | None:
    """Return the token in the secret that KubeRay makes or the file names.

    If the secret cannot be read, it is this machine's own token.
    """
    spec: dict[str, Any] = cluster.document["spec"]
    options = (spec.get("rayClusterSpec", spec).get("authOptions")) or {}
    if options.get("mode") != "token":
        return local_token()
    secret = options.get("secretName") or name
    path = "jsonpath={.data." + _TOKEN_KEY + "}"
    result = output_of(["kubectl", *_namespace(cluster), "get", "secret", secret, "--output", path])
    try:
        token = base64.b64decode(result.stdout, validate=True).decode().strip() if result.returncode == 0 else ""
    except ValueError:
        token = ""
    return token or local_token()


def _namespace(cluster: Cluster) -> list[str]:
    namespace = cluster.document["metadata"].get("namespace")
    return ["--namespace", str(namespace)] if namespace else []
