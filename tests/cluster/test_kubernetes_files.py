"""The Kustomize overlays and parts, rendered by kubectl and checked against KubeRay's schemas and Kubernetes' own rules."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._private.accelerators import tpu

from render.cluster import kustomize
from render.cluster.cluster_files import KUBERNETES_JOB, Cluster, find_cluster
from render.cluster.kubernetes import submit_words
from render.cluster.kubernetes_options import WORDS, KubernetesOptions
from render.config.compose import load_config
from render.system.version import __version__
from tests.conftest import ROOT, refusal
from tests.support.kuberay import VERSIONS, cluster_spec, complaints, field_paths, pods
from tests.support.pod_security import baseline_violations, restricted_violations

CLUSTER = ROOT / "cluster"
OVERLAYS = sorted(kustomize.overlays())
PARTS = sorted(kustomize.parts())
PINNED = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / ".constraints.txt").read_text(), re.M))
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl 1.27 or newer")
pytestmark = needs_kubectl


@functools.cache
def cluster_of(name: str, *parts: str) -> Cluster:
    return find_cluster(name, parts)


def ray_spec(name: str) -> Any:
    return cluster_spec(cluster_of(name).document)


def kinds(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return the manifests by kind; each has one."""
    by_kind = {manifest["kind"]: manifest for manifest in cluster.manifests}
    assert len(by_kind) == len(cluster.manifests)
    return by_kind


# KubeRay


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_kuberay_takes_the_manifest(name: str, version: str) -> None:
    assert complaints(cluster_of(name).document, version) == []


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ["k8s-gpu", "k8s-gpu-job"])
def test_kuberay_takes_the_manifest_with_a_part(name: str, part: str) -> None:
    document = cluster_of(name, part).document
    assert complaints(document) == []
    # Heads keep their state on a volume from 1.7 on only.
    assert bool(complaints(document, "1.6")) == (part == "rocksdb")


@pytest.mark.parametrize("name", ["k8s-gpu", "k8s-tpu", "k8s-gpu-spot-job"])
def test_every_misspelt_field_of_a_manifest_is_found(name: str) -> None:
    manifest = cluster_of(name, "cache", "redis").document
    paths = [path for path in field_paths(manifest) if path not in (("kind",), ("metadata",))]
    assert len(paths) > 100
    missed = []
    for path in paths:
        wrong = deepcopy(manifest)
        within = wrong
        for key in path[:-1]:
            within = within[key]
        within[path[-1] + "x"] = within.pop(path[-1])
        if not complaints(wrong):
            missed.append(path)
    assert missed == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_have_time_to_leave_and_room_to_work(name: str) -> None:
    spec = ray_spec(name)
    (group,) = spec["workerGroupSpecs"]
    pod = group["template"]["spec"]
    (container,) = pod["containers"]
    assert group["numOfHosts"] == 1
    leave, warm = container["lifecycle"]["preStop"]["exec"]["command"][-1], pod["initContainers"][0]["command"]
    image = (CLUSTER / "Containerfile").read_text()
    assert f"COPY cluster/{Path(leave).name} cluster/{Path(warm[1]).name} {Path(leave).parent}/" in image
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    waits = re.search(r"LEAVE_SECONDS:-(\d+)", (CLUSTER / "leave.sh").read_text())
    assert waits is not None
    longest = int(environment.get("LEAVE_SECONDS", waits[1]))
    assert pod["terminationGracePeriodSeconds"] > longest + 30
    if "spot" in name:
        # GKE gives a pod on such a node 25 s.
        assert longest < 25 and pod["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
        assert "nodeSelector" not in spec["headGroupSpec"]["template"]["spec"]
    assert {"/dev/shm", "/scratch", "/cache"} == {mount["mountPath"] for mount in container["volumeMounts"]}
    assert environment["XDG_CACHE_HOME"] == warm[2] == "/cache"
    assert container["resources"]["requests"] == container["resources"]["limits"]
    if name.endswith("job"):
        job = cluster_of(name).document["spec"]
        assert job["shutdownAfterJobFinishes"] and job["backoffLimit"] > 0
        assert 86400 <= job["activeDeadlineSeconds"] <= 30 * 86400
        assert not spec["enableInTreeAutoscaling"]
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"] > 0
    else:
        assert spec["enableInTreeAutoscaling"] and group["minReplicas"] == group["replicas"] == 0
        assert spec["autoscalerOptions"]["idleTimeoutSeconds"] <= 900


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_token_is_asked_for_and_the_dashboard_is_open_to_the_operator_only(name: str) -> None:
    spec = ray_spec(name)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    # KubeRay's operator asks for a job's state from another pod.
    host = "0.0.0.0" if name.endswith("job") else "127.0.0.1"
    assert spec["headGroupSpec"]["rayStartParams"]["dashboard-host"] == host


@pytest.mark.parametrize("name", OVERLAYS)
def test_versions_and_images_are_those_that_were_tested(name: str) -> None:
    assert ray_spec(name)["rayVersion"] == PINNED["ray"]
    images = set(re.findall(r"image: (\S+)", yaml.safe_dump(cluster_of(name).document)))
    assert images == {f"pareidolia:{__version__}-{'tpu' if 'tpu' in name else 'cuda'}"}
    # A RayJob is never brought up: `cluster-up` refuses it.
    command = "submit" if name.endswith("-job") else "cluster-up"
    assert f"or make {command} container=" in (kustomize.overlays()[name] / "kustomization.yaml").read_text()


def test_spot_differs_from_on_demand_in_nothing_but_nodes_and_notice() -> None:
    for kind in ("", "-job"):
        spot, demand = (deepcopy(cluster_of(f"k8s-gpu{word}{kind}").manifests) for word in ("-spot", ""))
        text = yaml.safe_dump_all(spot).replace("pareidolia-gpu-spot", "pareidolia-gpu")
        spot = tuple(yaml.safe_load_all(text))
        (pod,) = (group["template"]["spec"] for group in cluster_spec(spot[-1])["workerGroupSpecs"])
        pod["nodeSelector"] = {}
        del pod["tolerations"][-1]
        del pod["containers"][0]["env"][-1]
        assert spot == demand


@pytest.mark.parametrize("name", OVERLAYS)
def test_words_for_submit_are_a_farm_that_the_cluster_can_have(name: str) -> None:
    cluster = cluster_of(name)
    farm = load_config("poster", submit_words(cluster)).farm
    (group,) = ray_spec(name)["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert farm.workers is not None and farm.timeout >= 900 and farm.scratch == "/scratch"
    if "tpu" in name:
        assert farm.workers * farm.worker.resources["TPU"] <= group["maxReplicas"] * int(limits["google.com/tpu"])
    else:
        assert farm.worker.num_gpus == 1 and farm.workers <= group["maxReplicas"] * int(limits["nvidia.com/gpu"])
    if cluster.kind == KUBERNETES_JOB:
        entry = cluster.document["spec"]["entrypoint"]
        assert shlex.split(entry)[:5] == ["python", "-m", "render", "render", "conf=poster"]
        assert SHELLCHECK is not None
        checked = subprocess.run([SHELLCHECK, "-s", "bash", "-"], input=entry, text=True, capture_output=True)
        assert checked.stdout == ""


def test_slices_of_tpus_are_of_one_host() -> None:
    for name in ("k8s-tpu", "k8s-tpu-job"):
        pod = ray_spec(name)["workerGroupSpecs"][0]["template"]["spec"]
        topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
        limits = pod["containers"][0]["resources"]["limits"]
        chips = tpu.get_num_chips_from_topology(topology)
        assert chips == tpu.get_chips_per_host(topology, "v6e") == int(limits["google.com/tpu"])


# What is beside the cluster


@pytest.mark.parametrize("name", OVERLAYS)
def test_all_resources_of_an_overlay_have_its_name(name: str) -> None:
    """So two of them live in one namespace, and each is taken down alone."""
    own = name.replace("k8s", "pareidolia")
    cluster = cluster_of(name, "monitoring")
    by_kind = kinds(cluster)
    assert set(by_kind) == {"ServiceAccount", "NetworkPolicy", "PodMonitor", cluster.document["kind"]}
    assert {manifest["metadata"]["name"] for manifest in cluster.manifests} == {own}
    spec = cluster_spec(cluster.document)
    templates = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    if cluster.kind == KUBERNETES_JOB:
        templates.append(cluster.document["spec"]["submitterPodTemplate"])
    label = {"pareidolia/cluster": own}
    assert all(template["metadata"]["labels"] == label for template in templates)
    assert {template["spec"].get("serviceAccountName", own) for template in templates} == {own}
    policy = by_kind["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == label and policy["policyTypes"] == ["Ingress"]
    among_themselves, *others = policy["ingress"]
    assert among_themselves == {"from": [{"podSelector": {"matchLabels": label}}]}
    # Nobody else may open any port: the operator the dashboard, Prometheus the metrics.
    opened = {
        rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]: [port["port"] for port in rule["ports"]]
        for rule in others
    }
    assert opened == {"kuberay-operator": [8265], "prometheus": [8080]}
    monitor = by_kind["PodMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"] == label
    (endpoint,) = monitor["podMetricsEndpoints"]
    for template in templates[:2]:
        (container,) = template["spec"]["containers"]
        assert {"name": endpoint["port"], "containerPort": 8080} in container["ports"]
    assert all(group["rayStartParams"]["metrics-export-port"] == "8080" for group in spec["workerGroupSpecs"])


@pytest.mark.parametrize("name", ["k8s-gpu", "k8s-tpu-job"])
def test_parts_add_what_they_say(name: str) -> None:
    plain, cached = (kinds(cluster_of(name, *parts)) for parts in ((), ("cache",)))
    claim = cached.pop("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    kind = cluster_of(name).document["kind"]
    spec = cluster_spec(cached[kind])
    for template in (spec["headGroupSpec"]["template"], spec["workerGroupSpecs"][0]["template"]):
        (volume,) = (volume for volume in template["spec"]["volumes"] if volume["name"] == "cache")
        assert volume.pop("persistentVolumeClaim") == {"claimName": claim["metadata"]["name"]}
        volume["emptyDir"] = {"sizeLimit": "8Gi"}
    assert cached == plain
    for part, expected in (("redis", {"redisAddress", "redisPassword"}), ("rocksdb", {"backend", "storage"})):
        document = deepcopy(cluster_of(name, part).document)
        assert set(cluster_spec(document).pop("gcsFaultToleranceOptions")) == expected
        if kind == "RayJob":
            # On a worker: a driver on the head is lost with it.
            assert document["spec"].pop("entrypointNumCpus") == 1
        assert document == plain[kind]


# Pod security


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_pass_the_level_restricted(name: str) -> None:
    for role, pod in pods(cluster_of(name, "cache", "redis").document).items():
        if role == "tpu":
            # Only root may use the chips on GKE.
            assert baseline_violations(pod) == []
            broken = {violation.partition(":")[0] for violation in restricted_violations(pod)}
            assert broken == {"Running as Non-root", "Running as Non-root user", "Capabilities"}
        else:
            assert restricted_violations(pod) == [], role


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change of a pod's spec: a value at a path, whose numbers are positions in lists."""

    def change(pod: dict[str, Any]) -> None:
        within: Any = pod
        *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        for key in parents:
            within = within[key] if isinstance(key, int) else within.setdefault(key, {})
        if isinstance(within, list):
            within.append(value)
        elif value is None:
            within.pop(last, None)
        else:
            within[last] = value

    return change


@pytest.mark.parametrize(
    ("control", "path", "value"),
    [
        ("Host Namespaces", "hostNetwork", True),
        ("Host Namespaces", "hostPID", True),
        ("HostPath Volumes", "volumes.9", {"name": "x", "hostPath": {"path": "/"}}),
        ("Volume Types", "volumes.9", {"name": "x", "nfs": {"server": "a", "path": "/"}}),
        ("Sysctls", "securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}]),
        ("HostProcess", "securityContext.windowsOptions", {"hostProcess": True}),
        ("AppArmor", "securityContext.appArmorProfile", {"type": "Unconfined"}),
        ("SELinux", "containers.0.securityContext.seLinuxOptions", {"type": "spc_t"}),
        ("SELinux", "securityContext.seLinuxOptions", {"user": "root"}),
        ("Seccomp", "securityContext.seccompProfile", {"type": "Unconfined"}),
        ("Seccomp", "securityContext.seccompProfile", None),
        ("Seccomp", "containers.0.securityContext.seccompProfile", {"type": "Unconfined"}),
        ("Privileged Containers", "containers.0.securityContext.privileged", True),
        ("Capabilities", "initContainers.0.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        ("Capabilities", "containers.0.securityContext.capabilities", {"drop": ["NET_RAW"]}),
        ("Capabilities", "containers.0.securityContext.capabilities", None),
        ("/proc Mount Type", "containers.0.securityContext.procMount", "Unmasked"),
        ("Host Ports", "containers.0.ports", [{"containerPort": 80, "hostPort": 80}]),
        ("Host Probes / Lifecycle Hooks", "containers.0.livenessProbe", {"httpGet": {"port": 80, "host": "10.0.0.1"}}),
        ("Privilege Escalation", "containers.0.securityContext.allowPrivilegeEscalation", None),
        ("Privilege Escalation", "initContainers.0.securityContext", None),
        ("Running as Non-root", "securityContext.runAsNonRoot", None),
        ("Running as Non-root", "containers.0.securityContext.runAsNonRoot", False),
        ("Running as Non-root user", "securityContext.runAsUser", 0),
        ("Running as Non-root user", "containers.0.securityContext.runAsUser", 0),
    ],
)
def test_every_control_of_the_standard_is_checked(control: str, path: str, value: Any) -> None:
    pod = pods(cluster_of("k8s-gpu").document)["gpu"]
    assert restricted_violations(pod) == []
    _set(path, value)(pod)
    assert control in {violation.partition(":")[0] for violation in restricted_violations(pod)}


# Options


def options(**words: str) -> KubernetesOptions:
    return KubernetesOptions.of({**WORDS, **words})


def applied(name: str, **words: str) -> dict[str, Any]:
    """Return the RayCluster or RayJob of an overlay with options; the schema takes it, and the pods stay restricted."""
    cluster = cluster_of(name)
    before = json.dumps(cluster.manifests)
    manifests = options(**words).applied(cluster.manifests)
    assert json.dumps(cluster.manifests) == before
    (document,) = (manifest for manifest in manifests if manifest["kind"] == cluster.document["kind"])
    assert complaints(document) == []
    assert restricted_violations(pods(document)["head"]) == []
    return document


def test_a_queue_and_a_priority_are_kueues_labels() -> None:
    job = applied("k8s-gpu-job", queue="art.prints", priority="high")
    assert job["metadata"]["labels"] == {
        "kueue.x-k8s.io/queue-name": "art.prints",
        "kueue.x-k8s.io/priority-class": "high",
    }
    assert "labels" not in applied("k8s-gpu-job")["metadata"]


@pytest.mark.parametrize(("name", "count"), [("k8s-gpu", 4), ("k8s-gpu-spot", 4), ("k8s-tpu", 1)])
def test_a_cluster_in_a_queue_has_the_pods_of_its_jobs_all_the_time(name: str, count: int) -> None:
    """Kueue admits a cluster whole: four workers are four pods with a GPU, or one with four chips."""
    spec = applied(name, queue="prints")["spec"]
    (group,) = spec["workerGroupSpecs"]
    assert not spec["enableInTreeAutoscaling"] and "autoscalerOptions" not in spec
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == count


def test_image_pull_secret_and_deadline_are_in_all_places() -> None:
    job = applied("k8s-gpu-job", container="mine:1", pull_secret="registry", deadline="3600")
    assert set(re.findall(r"image: (\S+)", yaml.safe_dump(job))) == {"mine:1"}
    assert job["spec"]["activeDeadlineSeconds"] == 3600
    assert [pod["imagePullSecrets"] for pod in pods(job).values()] == [[{"name": "registry"}]] * 3
    # Two times are one.
    again = options(pull_secret="registry").applied([job])
    assert [pod["imagePullSecrets"] for pod in pods(again[0]).values()] == [[{"name": "registry"}]] * 3


def test_options_are_the_words_that_they_came_from() -> None:
    words = {
        "container": "a:1",
        "queue": "q",
        "priority": "p",
        "pull_secret": "s",
        "deadline": "60",
        "parts": "cache,redis",
    }
    assert options(**words).words == [f"{key}={value}" for key, value in words.items()]
    assert options().words == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"queue": "My_Queue"}, "queue=My_Queue is no name in Kubernetes: use at most 63 lower-case letters"),
        ({"queue": "-a"}, "letter or digit at both ends"),
        ({"queue": "a" * 64}, "at most 63"),
        ({"queue": "a\nb"}, "is no name in Kubernetes"),
        ({"queue": "a", "priority": "very high"}, "priority=very high is no name in Kubernetes"),
        ({"priority": "high"}, "give queue=NAME, too"),
        ({"pull_secret": "a/b"}, "pull_secret=a/b is no name in Kubernetes: use at most 253"),
        ({"deadline": "0"}, "deadline=0: must be a whole number of seconds"),
        ({"deadline": "2h"}, "deadline=2h: must be"),
        ({"deadline": "9999999999"}, "must be a whole number"),
    ],
)
def test_values_that_kubernetes_refuses_are_refused(words: dict[str, str], message: str) -> None:
    assert message in " ".join(refusal(lambda: options(**words)).split("\n"))


def test_an_unknown_part_and_a_cluster_without_parts_are_refused() -> None:
    assert "there is no part 'chache': did you mean cache?" in refusal(lambda: find_cluster("k8s-gpu", ["chache"]))
    assert "cluster=aws-gpu has no parts: parts= is for k8s-gpu" in refusal(lambda: find_cluster("aws-gpu", ["cache"]))


# Directories of the user's own


def test_an_overlay_of_ones_own_is_a_cluster(tmp_path: Path) -> None:
    shutil.copytree(CLUSTER / "kubernetes", tmp_path / "kubernetes")
    own = tmp_path / "kubernetes" / "overlays" / "mine"
    own.mkdir()
    text = "resources: [../k8s-gpu]\nnamespace: art\ncomponents: [../../parts/cache]\n"
    (own / "kustomization.yaml").write_text(text)
    cluster = find_cluster(str(own), ["monitoring"])
    assert cluster.document["metadata"] | {"annotations": {}} == {
        "name": "pareidolia-gpu",
        "namespace": "art",
        "annotations": {},
    }
    assert {"PodMonitor", "PersistentVolumeClaim"} < set(kinds(cluster))
    assert complaints(cluster.document) == []
    (own / "kustomization.yaml").write_text("resources: [../nowhere]\n")
    assert "cannot be rendered by kubectl kustomize" in refusal(lambda: find_cluster(str(own)))
    (own / "kustomization.yaml").write_text("configMapGenerator: [{name: a, literals: [b=c]}]\n")
    assert "describes no cluster" in refusal(lambda: find_cluster(str(own)))


def test_without_kubectl_a_cluster_of_kubernetes_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "cluster=k8s-gpu needs kubectl, which is not on this machine" in refusal(lambda: find_cluster("k8s-gpu"))


# The image


def test_the_images_weights_come_into_the_cache_and_change_nothing_there(tmp_path: Path) -> None:
    source, cache = tmp_path / "image", tmp_path / "cache"
    (source / "pareidolia" / "weights").mkdir(parents=True)
    (source / "pareidolia" / "weights" / "new one.safetensors").write_bytes(b"image's")
    (source / "pareidolia" / "weights" / "old.safetensors").write_bytes(b"image's")
    (cache / "pareidolia" / "weights").mkdir(parents=True)
    (cache / "pareidolia" / "weights" / "old.safetensors").write_bytes(b"own")

    def warm(where: Path) -> None:
        environment = {**os.environ, "WARM_SOURCE": str(where)}
        subprocess.run(["bash", CLUSTER / "warm.sh", str(cache)], env=environment, check=True)

    warm(source)
    weights = cache / "pareidolia" / "weights"
    assert {path.name: path.read_bytes() for path in weights.iterdir()} == {
        "new one.safetensors": b"image's",
        "old.safetensors": b"own",
    }
    assert (weights / "new one.safetensors").stat().st_mode & 0o777 == 0o644
    # An image without weights has nothing to copy.
    warm(tmp_path / "nothing")


def test_the_image_has_a_digest_a_user_without_rights_and_its_arguments() -> None:
    text = (CLUSTER / "Containerfile").read_text()
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", text, re.M)
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["${BASE}", "base", "base"]
    *_, final = text.split("\nFROM ")
    assert re.search(r"^USER 1000$", final, re.M) and "--uid 1000" in final
    header = text.partition("\n\n")[0]
    for argument in ("EXTRA", "WEIGHTS", "PIP_INDEX_URL", "CA", "BASE"):
        assert re.search(rf"^ARG {argument}\b", text, re.M) and re.search(rf"^#   {argument}=", header, re.M)
    pod = ray_spec("k8s-gpu")["headGroupSpec"]["template"]["spec"]["securityContext"]
    assert pod["runAsUser"] == 1000
