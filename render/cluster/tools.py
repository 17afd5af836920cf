"""Programs, packages and credentials that clusters need: checks, and running of programs."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from render.cluster.cluster_files import AUTOSCALER, KUBERNETES, KUBERNETES_JOB, SLURM, Cluster
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
    KUBERNETES: ("kubectl",),
    KUBERNETES_JOB: ("kubectl",),
    SLURM: ("sbatch", "squeue", "scancel", "scontrol"),
}
#: The package that Ray's autoscaler imports for a cloud, and the extra of this package that installs it.
_MODULES = {"aws": ("boto3", "aws"), "gcp": ("googleapiclient", "gcp")}
_MAX_ANSWER_S = 20.0


def require_tools(cluster: Cluster, command: str) -> None:
    """Raise `UserError` if this machine lacks what `command` needs for the cluster."""
    require_ray()
    for program in _PROGRAMS.get(cluster.kind, ()):
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


def ray_command(*arguments: str) -> list[str]:
    """Return a command line of Ray's own program, with the Ray that this process would import."""
    return [sys.executable, "-m", "ray.scripts.scripts", *arguments]


def output_of(
    arguments: Sequence[str | Path], *, timeout_s: float = _MAX_ANSWER_S, directory: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program; return its exit code and output.

    Args:
        arguments: The program and its arguments.
        timeout_s: Longest time that it may take, s.
        directory: Its working directory; None for that of this process.
        stdin: Text on its standard input.

    Raises:
        UserError: It takes longer.
    """
    try:
        return subprocess.run(
            [*map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            cwd=directory,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"`{_command_text(arguments)}` gives no answer in {timeout_s:g} s: is the network up?") from None


def run(arguments: Sequence[str | Path], *, directory: Path | None = None, stdin: str | None = None) -> None:
    """Run a program that prints for the user itself. Raise `UserError` if it fails."""
    sys.stdout.flush()
    code = subprocess.run([*map(str, arguments)], cwd=directory, input=stdin, text=True, check=False).returncode
    if code:
        raise UserError(f"`{_command_text(arguments)}` failed with exit code {code}: what it printed above says why")


def last_line(text: str) -> str:
    """Return the last line that is not empty: in most programs' output, it states the reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no reason given"


def _command_text(arguments: Sequence[str | Path]) -> str:
    words = [*map(str, arguments)]
    if words[:3] == ray_command():
        words[:3] = ["ray"]
    return " ".join(words)
