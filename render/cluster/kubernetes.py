"""Clusters of KubeRay: a RayCluster, which takes jobs, or a RayJob, a cluster for one job."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml  # type: ignore[import-untyped]

from render.cluster import kubernetes_listing
from render.cluster.access import local_token
from render.cluster.cluster_files import DASHBOARD_PORT, KUBERNETES, KUBERNETES_JOB, Cluster, job_words
from render.cluster.dashboard import Dashboard
from render.cluster.kubernetes_options import SUBMIT_ANNOTATION, KubernetesOptions, secret_names
from render.cluster.tool_calls import last_line, output_of, run
from render.cluster.tunnel import forwarded
from render.errors import UserError

#: Label of RayJobs: the metadata.name in the cluster's file.
_LABEL = "pareidolia/cluster"
_TOKEN_KEY = "auth_token"
_KINDS = ("RayCluster", "RayJob")
_DRIVER_CPUS = 1.0


def up(cluster: Cluster, options: KubernetesOptions) -> None:
    """Apply the cluster's manifests with the options."""
    manifests = _with_options(cluster, options)
    _check_references(cluster, manifests, options)
    run(["kubectl", "apply", "-f", "-"], stdin=yaml.safe_dump_all(manifests))


def down(cluster: Cluster) -> None:
    """Delete what the file or directory describes; for a RayJob, also its jobs."""
    if cluster.kind == KUBERNETES_JOB:
        selector = f"{_LABEL}={cluster.document['metadata']['name']}"
        run(["kubectl", *_namespace(cluster), "delete", "rayjobs", "--selector", selector])
    command = ["kubectl", "delete", "--ignore-not-found", "-f"]
    if cluster.path.is_dir():
        run([*command, "-"], stdin=yaml.safe_dump_all(cluster.manifests))
    else:
        run([*command, cluster.path])


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the cluster's pods; see `kubernetes_listing.pods`."""
    return kubernetes_listing.pods(cluster, _namespace(cluster))


def job_list(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the RayJobs that were sent from the cluster's file; see `kubernetes_listing.jobs`."""
    return kubernetes_listing.jobs(cluster, _namespace(cluster), _LABEL)


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
    annotations = cluster.document["metadata"].get("annotations") or {}
    if cluster.kind == KUBERNETES_JOB:
        try:
            words = shlex.split(str(cluster.document["spec"].get("entrypoint") or ""))
        except ValueError as error:
            raise UserError(f"{cluster.path}: spec.entrypoint is no command of a shell ({str(error).lower()})") from None
        return [word for word in words if word.startswith("farm.") and not word.startswith("farm.address=")]
    try:
        annotated_words: object = json.loads(annotations.get(SUBMIT_ANNOTATION, "[]"))
    except (AttributeError, TypeError, ValueError):
        annotated_words = None
    return job_words(cluster, f"the annotation {SUBMIT_ANNOTATION}", annotated_words)


def driver_cpus(cluster: Cluster) -> float:
    """Return the CPUs that a job's driver reserves: one, on a worker, if the cluster would survive the loss of its head.

    0 leaves the driver on the head, which is lost with it.
    """
    if cluster.kind != KUBERNETES:
        return 0
    name, path = cluster.document["metadata"]["name"], "jsonpath={.spec.gcsFaultToleranceOptions}"
    result = output_of(["kubectl", *_namespace(cluster), "get", "raycluster", name, "--output", path])
    return _DRIVER_CPUS if result.returncode == 0 and result.stdout.strip() else 0


def send_job(
    cluster: Cluster,
    job: str,
    words: Sequence[str],
    environment: dict[str, str],
    resubmit_command: str,
    options: KubernetesOptions,
) -> None:
    """Make a RayJob, which renders on a cluster of its own and removes that cluster afterwards.

    Args:
        cluster: The cluster whose file describes the RayJob.
        job: Name of the RayJob.
        words: Arguments of the render command.
        environment: Environment variables of the job.
        resubmit_command: Command that sends the same job once more.
        options: What the user's words change in the manifests.
    """
    manifests = _with_options(cluster, options)
    document = next(manifest for manifest in manifests if manifest.get("kind") == "RayJob")
    manifests.remove(document)
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
    _check_references(cluster, [document], options)
    if manifests:
        # Service account, network policy and others, which all jobs of the cluster share.
        _hand_over(cluster, "apply", yaml.safe_dump_all(manifests))
    _hand_over(cluster, "create", yaml.safe_dump(document))


def _hand_over(cluster: Cluster, verb: str, text: str) -> None:
    result = output_of(["kubectl", *_namespace(cluster), verb, "-f", "-"], stdin=text)
    if result.returncode:
        raise UserError(f"cluster={cluster.word}: kubectl does not take the job ({last_line(result.stderr)})")


def _with_options(cluster: Cluster, options: KubernetesOptions) -> list[dict[str, Any]]:
    """Return copies of the manifests with the options. Raise `UserError` if the user's own are misshapen."""
    try:
        manifests = options.applied(cluster.manifests)
        for manifest in manifests:
            if manifest.get("kind") in _KINDS:
                secret_names(manifest)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise UserError(
            f"cluster={cluster.word}: the spec of its {cluster.document['kind']} is not what KubeRay reads: compare it "
            "with those in cluster/kubernetes"
        ) from None
    return manifests


def _check_references(cluster: Cluster, manifests: Sequence[dict[str, Any]], options: KubernetesOptions) -> None:
    """Raise `UserError` if the manifests name a Secret or a queue that is not there.

    What this machine's user may not look up is left to Kubernetes.
    """
    secrets: dict[str, str] = {}
    for manifest in manifests:
        if manifest.get("kind") in _KINDS:
            secrets |= secret_names(manifest)
    for name, use in secrets.items():
        if _is_missing(cluster, "secret", name):
            raise UserError(
                f"cluster={cluster.word} needs the Secret {name} {use}, which is not there: make it with `kubectl create "
                f"secret` in namespace {_namespace_name(cluster)}"
            )
    kueue = (("queue", "localqueues", options.queue), ("priority", "workloadpriorityclasses", options.priority))
    for key, kind, name in kueue:
        if name and _is_missing(cluster, f"{kind}.kueue.x-k8s.io", name):
            raise UserError(
                f"{key}={name} is not there: `kubectl get {kind}` lists those there are, if Kueue is installed there"
            )


def _is_missing(cluster: Cluster, kind: str, name: str) -> bool:
    """Return whether Kubernetes says that an object, or its whole kind, does not exist."""
    result = output_of(["kubectl", *_namespace(cluster), "get", kind, name, "--output", "name"])
    return result.returncode != 0 and bool(re.search(r"\(NotFound\)|doesn't have a resource type", result.stderr))


def _namespace_name(cluster: Cluster) -> str:
    """Return the namespace of the cluster: its manifests' own, or that of kubectl's context."""
    namespace = cluster.document["metadata"].get("namespace")
    if namespace:
        return str(namespace)
    result = output_of(["kubectl", "config", "view", "--minify", "--output", "jsonpath={..namespace}"])
    return result.stdout.strip() or "default"


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
