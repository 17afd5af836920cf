"""Clusters by name: files and Kustomize directories in `cluster/`, the user's own, or running clusters."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from render.cluster import kustomize
from render.config.yaml_files import UnsafeYaml, load_all_yaml, read_yaml_text
from render.errors import UserError
from render.system.paths import shipped_clusters

#: Name of the cluster that runs here, or whose dashboard the user forwards to here; and of that on machines by ssh.
LOCAL, OWN_MACHINES = "local", "own"
#: Port of Ray's dashboard, which accepts jobs.
DASHBOARD_PORT = 8265

#: Kinds: a running Ray, one on machines of the user's own, Ray's own autoscaler on a cloud, KubeRay's two resources, Slurm.
RUNNING, OWN, AUTOSCALER, KUBERNETES = "running", "own", "autoscaler", "kubernetes"
KUBERNETES_JOB, SLURM = "kubernetes job", "slurm"
_RESOURCES = {"RayCluster": KUBERNETES, "RayJob": KUBERNETES_JOB}


@dataclass(frozen=True)
class Cluster:
    """A cluster that jobs can be sent to.

    `word` is the user's name for it, `file` its description, which is a directory if Kustomize renders it, and `url` the
    address of its dashboard if known. `document` is the part of the description that Ray or KubeRay reads; empty for the
    other kinds. `manifests` are all documents for Kubernetes, `document` among them.
    """

    word: str
    kind: str
    file: Path | None = None
    url: str | None = None
    document: dict[str, Any] = field(default_factory=dict)
    manifests: tuple[dict[str, Any], ...] = ()

    @property
    def cloud(self) -> str:
        """The autoscaler's provider, such as `aws` or `gcp`; empty for the other kinds."""
        return str(self.document["provider"]["type"]) if self.kind == AUTOSCALER else ""

    @property
    def path(self) -> Path:
        """The file that describes the cluster."""
        assert self.file is not None
        return self.file


def find_cluster(word: str, parts: Sequence[str] = ()) -> Cluster:
    """Return the cluster that `cluster=WORD` names.

    Args:
        word: A name in `cluster/` (`aws-gpu`, `k8s-gpu`), the path of a .yaml or .sh file or of a directory for Kustomize,
            `own`, `local`, or the http address of a Ray dashboard.
        parts: Names of shipped parts that a directory for Kustomize is rendered with.

    Raises:
        UserError: A name does not exist, a file describes no cluster, or it cannot have parts.
    """
    kustomize.check_parts(parts)
    cluster = _find_cluster(word, parts)
    if parts and not (cluster.file is not None and cluster.file.is_dir()):
        raise UserError(f"cluster={word} has no parts: parts= is for {', '.join(kustomize.overlays())}")
    return cluster


def _find_cluster(word: str, parts: Sequence[str]) -> Cluster:
    if not word:
        raise UserError(f"which cluster? cluster=NAME, with one of {', '.join(cluster_names())}")
    if word in (LOCAL, OWN_MACHINES):
        return Cluster(word, OWN)
    if word.startswith(("http://", "https://")):
        return Cluster(word, RUNNING, url=_dashboard_url(word))
    if word.endswith((".yaml", ".yml", ".sh")):
        path = Path(word).expanduser()
        if not path.is_file():
            raise UserError(f"cluster={word}: there is no such file")
        return _cluster_of_file(word, path)
    overlays = kustomize.overlays()
    if word in overlays:
        return _cluster_of_directory(word, overlays[word], parts)
    shipped = _shipped()
    if word not in shipped and kustomize.is_kustomization(Path(word).expanduser()):
        return _cluster_of_directory(word, Path(word).expanduser(), parts)
    if word not in shipped:
        matches = difflib.get_close_matches(word, cluster_names(), n=1)
        hint = f"did you mean {matches[0]}? " if matches else ""
        raise UserError(
            f"there is no cluster {word!r}: {hint}there are {', '.join(cluster_names())}; or give a .yaml or .sh file, "
            "a directory with a kustomization.yaml, or the http address of a Ray dashboard"
        )
    return _cluster_of_file(word, shipped[word])


def cluster_names() -> list[str]:
    """Return the values that `cluster=` may have: the shipped files and directories, `own` and `local`."""
    return [*sorted([*_shipped(), *kustomize.overlays()]), OWN_MACHINES, LOCAL]


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
    return _cluster_document(_mappings(path))


def _mappings(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file that are mappings."""
    return [document for document in load_all_yaml(read_yaml_text(path)) if isinstance(document, dict)]


def _cluster_document(documents: Sequence[dict[str, Any]]) -> tuple[str, dict[str, Any]] | None:
    """Return kind and document of the first document that describes a cluster."""
    for document in documents:
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
        documents = _mappings(path)
    except OSError as error:
        raise UserError(f"cluster={word}: {error.strerror}") from None
    except UnsafeYaml as error:
        raise UserError(f"cluster={word} cannot be read: {error}") from None
    return _cluster_of_documents(word, path, documents)


def _cluster_of_directory(word: str, path: Path, parts: Sequence[str]) -> Cluster:
    return _cluster_of_documents(word, path, kustomize.rendered(word, path, parts))


def _cluster_of_documents(word: str, path: Path, documents: Sequence[dict[str, Any]]) -> Cluster:
    resource = _cluster_document(documents)
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
        return Cluster(word, kind, path, document=document, manifests=tuple(documents))
    if not isinstance(metadata, dict | None):
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
