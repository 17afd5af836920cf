"""Options of clusters on Kubernetes: image, queue, priority, pull secret and time limit, checked and put into manifests."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from render.errors import UserError

#: Annotation with farm settings for jobs that do not set them.
SUBMIT_ANNOTATION = "pareidolia/submit"
#: Labels by which Kueue finds a workload's LocalQueue and WorkloadPriorityClass.
QUEUE_LABEL, PRIORITY_LABEL = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
#: Words of the command line, with their default values.
WORDS = {"container": "", "queue": "", "priority": "", "pull_secret": "", "deadline": "", "parts": ""}

#: Longest value of a label. Names of Kueue's objects are labels here; names of Secrets may be longer.
_MAX_LABEL, _MAX_NAME = 63, 253
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
#: Accelerators in the limits of a container. The shipped settings give one to each worker.
_ACCELERATORS = ("nvidia.com/gpu", "google.com/tpu")


@dataclass(frozen=True)
class KubernetesOptions:
    """Settings of a cluster on Kubernetes, from the words of a command. Empty values leave its manifests as they are.

    `container` is the image of all containers; `queue` a LocalQueue of Kueue's and `priority` its priority class;
    `pull_secret` a Secret with the registry's credentials; `deadline_s` the longest time of a RayJob, s; `parts` names of
    shipped components.
    """

    container: str = ""
    queue: str = ""
    priority: str = ""
    pull_secret: str = ""
    deadline_s: int | None = None
    parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, words: Mapping[str, str]) -> KubernetesOptions:
        """Return the options in the words of a command. Raise `UserError` for values that Kubernetes would refuse."""
        for key, longest in (("queue", _MAX_LABEL), ("priority", _MAX_LABEL), ("pull_secret", _MAX_NAME)):
            _check_name(key, words[key], longest)
        if words["priority"] and not words["queue"]:
            raise UserError(f"priority={words['priority']} is of Kueue, which orders a queue by it: give queue=NAME, too")
        deadline = words["deadline"]
        # Kubernetes reads an int32.
        if deadline and not (re.fullmatch(r"[1-9][0-9]{0,9}", deadline) and int(deadline) < 1 << 31):
            raise UserError(f"deadline={deadline}: must be a whole number of seconds, such as 86400 for a day")
        return cls(
            words["container"],
            words["queue"],
            words["priority"],
            words["pull_secret"],
            int(deadline) if deadline else None,
            tuple(filter(None, words["parts"].split(","))),
        )

    @property
    def words(self) -> list[str]:
        """The words of a command that say the same."""
        values = {
            "container": self.container,
            "queue": self.queue,
            "priority": self.priority,
            "pull_secret": self.pull_secret,
            "deadline": str(self.deadline_s or ""),
            "parts": ",".join(self.parts),
        }
        return [f"{key}={value}" for key, value in values.items() if value]

    def applied(self, manifests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return copies of a cluster's manifests with these options."""
        copies = [_with_image(manifest, self.container) for manifest in manifests]
        for manifest in copies:
            if manifest.get("kind") in ("RayCluster", "RayJob"):
                self._apply(manifest)
        return copies

    def _apply(self, manifest: dict[str, Any]) -> None:
        spec = manifest["spec"]
        labels = {QUEUE_LABEL: self.queue, PRIORITY_LABEL: self.priority}
        if self.queue:
            own_labels = manifest["metadata"].get("labels") or {}
            manifest["metadata"]["labels"] = {**own_labels, **{key: value for key, value in labels.items() if value}}
        if self.queue and manifest["kind"] == "RayCluster":
            _fix_size(manifest)
        if self.deadline_s is not None and manifest["kind"] == "RayJob":
            spec["activeDeadlineSeconds"] = self.deadline_s
        if self.pull_secret:
            for pod in pod_specs(manifest):
                secrets = pod.get("imagePullSecrets") or []
                if {"name": self.pull_secret} not in secrets:
                    pod["imagePullSecrets"] = [*secrets, {"name": self.pull_secret}]


def pod_specs(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pod specs in a RayCluster or RayJob: head, groups of workers, and a job's submitter."""
    spec = manifest["spec"]
    cluster = spec.get("rayClusterSpec") or spec
    templates = [(cluster.get("headGroupSpec") or {}).get("template")]
    templates += [group.get("template") for group in cluster.get("workerGroupSpecs") or []]
    templates.append(spec.get("submitterPodTemplate"))
    return [template["spec"] for template in templates if template and template.get("spec")]


def secret_names(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the Secrets that a RayCluster or RayJob cannot start without, and what each is for."""
    spec = manifest["spec"]
    cluster = spec.get("rayClusterSpec") or spec
    secrets = {
        secret["name"]: "to pull the image" for pod in pod_specs(manifest) for secret in pod.get("imagePullSecrets") or []
    }
    options = cluster.get("gcsFaultToleranceOptions") or {}
    for key in ("redisUsername", "redisPassword"):
        reference = ((options.get(key) or {}).get("valueFrom") or {}).get("secretKeyRef") or {}
        if "name" in reference and not reference.get("optional"):
            secrets[reference["name"]] = f"for Redis (its key {reference.get('key')})"
    token = (cluster.get("authOptions") or {}).get("secretName")
    if token:
        secrets[token] = "with Ray's token (its key auth_token)"
    return secrets


def _check_name(key: str, name: str, longest: int) -> None:
    if name and (len(name) > longest or not _NAME.fullmatch(name)):
        raise UserError(
            f"{key}={name} is no name in Kubernetes: use at most {longest} lower-case letters, digits, '-' and '.', with a "
            "letter or digit at both ends"
        )


def _fix_size(manifest: dict[str, Any]) -> None:
    """Give a RayCluster the pods that its jobs use, all the time: Kueue admits a cluster whole, without autoscaling."""
    spec = manifest["spec"]
    spec["enableInTreeAutoscaling"] = False
    spec.pop("autoscalerOptions", None)
    try:
        words = json.loads((manifest["metadata"].get("annotations") or {}).get(SUBMIT_ANNOTATION, "[]"))
        workers = next(int(word.partition("=")[2]) for word in words if word.startswith("farm.workers="))
    except (ValueError, StopIteration):
        workers = None
    for group in spec.get("workerGroupSpecs") or []:
        limits = group["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
        devices = next((int(limits[name]) for name in _ACCELERATORS if name in limits), 1)
        pods = group.get("maxReplicas", 1)
        if workers is not None:
            pods = min(pods, -(-workers // devices))
        group["replicas"] = group["minReplicas"] = group["maxReplicas"] = pods


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
