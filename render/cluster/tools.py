"""Programs, packages and credentials that clusters need: checks that they are there."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys

from render.cluster.cluster_files import AUTOSCALER, KUBERNETES, KUBERNETES_JOB, LOCAL, OWN, SLURM, Cluster
from render.cluster.tool_calls import last_line, output_of
from render.errors import UserError

#: Remedy for each missing program.
_REMEDIES = {
    "kubectl": "install it (kubernetes.io/docs/tasks/tools)",
    "sbatch": "run this on a login node of the Slurm cluster",
    "squeue": "run this on a login node of the Slurm cluster",
    "scancel": "run this on a login node of the Slurm cluster",
    "scontrol": "run this on a login node of the Slurm cluster",
    "ssh": "install OpenSSH's client",
    "rsync": "install rsync",
}
_PROGRAMS = {
    AUTOSCALER: ("ssh", "rsync"),
    OWN: ("ssh",),
    KUBERNETES: ("kubectl",),
    KUBERNETES_JOB: ("kubectl",),
    SLURM: ("sbatch", "squeue", "scancel", "scontrol"),
}
#: The package that Ray's autoscaler imports for a cloud, and the extra of this package that installs it.
_MODULES = {"aws": ("boto3", "aws"), "gcp": ("googleapiclient", "gcp")}


def require_tools(cluster: Cluster, command: str) -> None:
    """Raise `UserError` if this machine lacks what `command` needs for the cluster."""
    if cluster.kind != SLURM:
        require_ray()
    for program in () if cluster.word == LOCAL else _PROGRAMS.get(cluster.kind, ()):
        if shutil.which(program) is None:
            raise UserError(f"cluster={cluster.word} needs {program}, which is not on this machine: {_REMEDIES[program]}")
    module, extra = _MODULES.get(cluster.cloud, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        raise UserError(
            f"cluster={cluster.word} needs the package {module}, which make {command} cluster={cluster.word} "
            f"EXTRAS={extra} installs"
        )
    if cluster.cloud == "aws":
        _require_aws(cluster)
    if cluster.cloud == "gcp":
        google_project(cluster)
    if cluster.kind in (KUBERNETES, KUBERNETES_JOB):
        _require_context(cluster)


def require_ray() -> None:
    """Raise `UserError` unless Ray is installed with its client for dashboards."""
    missing = [module for module in ("aiohttp", "requests", "colorful") if not _is_installed(module)]
    if missing:
        raise UserError(
            f"clusters need ray[default], of which {missing[0]} is missing: make does it by itself; else install "
            "pareidolia[cluster]"
        )


def _is_installed(module: str) -> bool:
    # An imported module may have no spec: colorful replaces itself by an object.
    return module in sys.modules or importlib.util.find_spec(module) is not None


def _require_aws(cluster: Cluster) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError

    # botocore logs every file and service that it asks.
    logging.getLogger("botocore").setLevel(logging.ERROR)
    reason = "there are none"
    try:
        credentials = boto3.Session().get_credentials()
        if credentials is not None and credentials.get_frozen_credentials().access_key:
            return
    except BotoCoreError as error:
        reason = " ".join(str(error).split())
    raise UserError(
        f"cluster={cluster.word} needs AWS credentials ({reason}): run `aws configure`, or set AWS_PROFILE, or "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )


def google_project(cluster: Cluster) -> str:
    """Return the Google Cloud project of a cluster: its file's, or that of the credentials.

    Raise `UserError` if there is no project, or no credentials.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    logging.getLogger("google.auth").setLevel(logging.ERROR)
    try:
        _, default_project = google.auth.default()
    except GoogleAuthError as error:
        reason = " ".join(str(error).split()).split(". ")[0]
        raise UserError(
            f"cluster={cluster.word} needs Google Cloud credentials ({reason}): run `gcloud auth application-default login`"
        ) from None
    project = cluster.document["provider"].get("project_id") or default_project
    if not project:
        raise UserError(
            f"cluster={cluster.word} needs a project: `gcloud config set project PROJECT`, or provider.project_id in "
            f"{cluster.path}"
        )
    return str(project)


def _require_context(cluster: Cluster) -> None:
    result = output_of(["kubectl", "config", "current-context"])
    if result.returncode:
        raise UserError(
            f"cluster={cluster.word}: kubectl has no context ({last_line(result.stderr)}): log in to a Kubernetes cluster, "
            "then `kubectl config use-context NAME`"
        )
