"""Clusters by name: files in `cluster/`, files of the user, or running clusters."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from render.config.yaml_files import UnsafeYaml, load_all_yaml, read_yaml_text
from render.errors import UserError
from render.system.paths import shipped_clusters

#: Name of the cluster that runs here, or whose dashboard the user forwards to here.
LOCAL = "local"
#: Port of Ray's dashboard, which accepts jobs.
DASHBOARD_PORT = 8265
_LOCAL_URL = f"http://127.0.0.1:{DASHBOARD_PORT}"

#: Kinds: a running Ray, Ray's own autoscaler on a cloud or on named machines, KubeRay's two resources, Slurm.
RUNNING, AUTOSCALER, KUBERNETES, KUBERNETES_JOB, SLURM = "running", "autoscaler", "kubernetes", "kubernetes job", "slurm"
_RESOURCES = {"RayCluster": KUBERNETES, "RayJob": KUBERNETES_JOB}


@dataclass(frozen=True)
class Cluster:
    """A cluster that jobs can be sent to.

    `word` is the user's name for it, `file` its description, and `url` the address of its dashboard if known.
    `document` is the part of the file that Ray or KubeRay reads; empty for the other kinds.
    """

    word: str
    kind: str
    file: Path | None = None
    url: str | None = None
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def cloud(self) -> str:
        """The autoscaler's provider, such as `aws` or `gcp`; empty for the other kinds."""
        return str(self.document["provider"]["type"]) if self.kind == AUTOSCALER else ""

    @property
    def path(self) -> Path:
        """The file that describes the cluster."""
        assert self.file is not None
        return self.file


def find_cluster(word: str) -> Cluster:
    """Return the cluster that `cluster=WORD` names.

    `WORD` is a name in `cluster/` (`aws-gpu`), the path of a .yaml or .sh file, `local`, or the http address of a Ray
    dashboard. Raise `UserError` for a name that does not exist, and for a file that describes no cluster.
    """
    if not word:
        raise UserError(f"which cluster? cluster=NAME, with one of {', '.join(cluster_names())}")
    if word == LOCAL:
        return Cluster(word, RUNNING, url=_LOCAL_URL)
    if word.startswith(("http://", "https://")):
        return Cluster(word, RUNNING, url=_dashboard_url(word))
    if word.endswith((".yaml", ".yml", ".sh")):
        path = Path(word).expanduser()
        if not path.is_file():
            raise UserError(f"cluster={word}: there is no such file")
        return _cluster_of_file(word, path)
    shipped = _shipped()
    if word not in shipped:
        matches = difflib.get_close_matches(word, [*shipped, LOCAL], n=1)
        hint = f"did you mean {matches[0]}? " if matches else ""
        raise UserError(
            f"there is no cluster {word!r}: {hint}there are {', '.join(cluster_names())}; or give a .yaml or .sh file, or "
            "the http address of a Ray dashboard"
        )
    return _cluster_of_file(word, shipped[word])


def cluster_names() -> list[str]:
    """Return the values that `cluster=` may have: the shipped files and `local`."""
    return [*_shipped(), LOCAL]


def _shipped() -> dict[str, Path]:
    """Return the files in `cluster/` that describe a cluster, by name."""
    clusters = {}
    for path in sorted(shipped_clusters().glob("*"), key=lambda path: path.stem):
        if (path.suffix == ".sh" and _is_batch(path)) or (path.suffix == ".yaml" and _resource(path) is not None):
            clusters[path.stem] = path
    return clusters


def _dashboard_url(word: str) -> str:
    try:
        parts = urlsplit(word)
        # Reading the port raises ValueError if it is no number.
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UserError(f"cluster={word} is no address of a dashboard: write http://HOST:{DASHBOARD_PORT}")
    return word.rstrip("/")


def _is_batch(path: Path) -> bool:
    """Return whether a shell script is a Slurm batch script, not a helper of a YAML file."""
    return any(line.startswith("#SBATCH") for line in read_yaml_text(path).splitlines())


def _resource(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Return kind and document of a YAML file, or None if it describes no cluster."""
    for document in load_all_yaml(read_yaml_text(path)):
        if not isinstance(document, dict):
            continue
        if document.get("kind") in _RESOURCES:
            return _RESOURCES[document["kind"]], document
        provider = document.get("provider")
        if isinstance(provider, dict) and "type" in provider and "cluster_name" in document:
            return AUTOSCALER, document
    return None


def _cluster_of_file(word: str, path: Path) -> Cluster:
    try:
        if path.suffix == ".sh":
            if _is_batch(path):
                return Cluster(word, SLURM, path)
            raise UserError(f"cluster={word} describes no cluster: a script of Slurm's has lines that begin with #SBATCH")
        resource = _resource(path)
    except OSError as error:
        raise UserError(f"cluster={word}: {error.strerror}") from None
    except UnsafeYaml as error:
        raise UserError(f"cluster={word} cannot be read: {error}") from None
    if resource is None:
        raise UserError(
            f"cluster={word} describes no cluster: it must be one of Ray's autoscaler (with cluster_name and "
            "provider), or a RayCluster or RayJob of Kubernetes"
        )
    kind, document = resource
    metadata = document.get("metadata")
    if kind != AUTOSCALER:
        if not (isinstance(metadata, dict) and isinstance(metadata.get("name"), str)):
            raise UserError(f"cluster={word} has no metadata.name: the name of the {document['kind']}")
        if not isinstance(document.get("spec"), dict):
            raise UserError(f"cluster={word} has no spec: it says of no nodes")
    elif not isinstance(metadata, dict | None):
        raise UserError(f"cluster={word}: metadata must be pairs, such as submit: [farm.workers=4]")
    return Cluster(word, kind, path, document=document)


def job_words(cluster: Cluster, key: str, value: object) -> list[str]:
    """Return the words that a cluster's file has for its jobs.

    Args:
        cluster: The cluster.
        key: Name of the value in the file, for the message.
        value: The value in the file.

    Raises:
        UserError: The value is not a list of key=value.
    """
    if not isinstance(value, list) or not all(isinstance(word, str) and "=" in word for word in value):
        raise UserError(f'{cluster.path}: {key} must be a list of key=value, such as ["farm.workers=4"]')
    return value
