"""Commands about clusters of Kubernetes: what kubectl is asked to apply, create and delete, by one that records it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from render.cluster import kubernetes
from render.cluster.cluster_files import find_cluster
from render.commands.table import COMMANDS
from tests.conftest import refusal

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl 1.27 or newer")

#: Renders as the real one does, knows no object whose name is in the file `missing`, and may not look up those in `secret`.
_STUB = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> {directory}/calls
name=${{@: -3:1}}
case "$*" in
  kustomize*) exec {kubectl} "$@" ;;
  *current-context) echo art ;;
  *gcsFaultToleranceOptions*) cat {directory}/recovery 2>/dev/null; exit 0 ;;
  *" get "*|get*)
    if grep -qxF "$name" {directory}/missing 2>/dev/null; then
      echo "Error from server (NotFound): $2 \\"$name\\" not found" >&2; exit 1
    fi
    if grep -qxF "$name" {directory}/forbidden 2>/dev/null; then
      echo "Error from server (Forbidden): $2 is forbidden" >&2; exit 1
    fi ;;
  *"-f -") cat >> {directory}/given; echo --- >> {directory}/given ;;
esac
"""


@dataclass
class Recorder:
    """A directory with what a stub of kubectl was asked and given."""

    directory: Path

    @property
    def calls(self) -> list[str]:
        """Its command lines that change something."""
        lines = (self.directory / "calls").read_text().splitlines()
        return [line for line in lines if any(verb in line.split() for verb in ("apply", "create", "delete"))]

    @property
    def manifests(self) -> list[dict[str, Any]]:
        """The manifests that it was given, in order."""
        path = self.directory / "given"
        return [part for part in yaml.safe_load_all(path.read_text()) if part] if path.exists() else []

    def knows_not(self, *names: str) -> None:
        (self.directory / "missing").write_text("\n".join(names) + "\n")

    def may_not_see(self, *names: str) -> None:
        (self.directory / "forbidden").write_text("\n".join(names) + "\n")


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    stub = tmp_path / "bin" / "kubectl"
    stub.parent.mkdir()
    stub.write_text(_STUB.format(directory=tmp_path, kubectl=KUBECTL))
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return Recorder(tmp_path)


def run(name: str, *words: str, root: str = "noise") -> int:
    command = COMMANDS[name]
    return command.load()(words) if command.root is None else command.load()(root, words)


def refused(name: str, *words: str) -> str:
    return refusal(lambda: run(name, *words))


def _kinds(manifests: Sequence[dict[str, Any]]) -> list[str]:
    return [manifest["kind"] for manifest in manifests]


JOB = ("cluster=k8s-gpu-job", "image=noise", "output.dir=gs://bucket/a", "name=two words")


def test_a_cluster_is_applied_with_all_that_goes_with_it_and_deleted_the_same(recorder: Recorder) -> None:
    words = ("cluster=k8s-gpu", "parts=monitoring,cache")
    assert run("cluster-up", *words, "container=mine:1", "queue=prints", "priority=high", "pull_secret=registry") == 0
    kinds = {"ServiceAccount", "NetworkPolicy", "PersistentVolumeClaim", "PodMonitor", "RayCluster"}
    assert set(_kinds(recorder.manifests)) == kinds
    cluster = recorder.manifests[-1]
    assert cluster["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "prints"
    pod = cluster["spec"]["headGroupSpec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "mine:1" and pod["imagePullSecrets"] == [{"name": "registry"}]
    (recorder.directory / "given").unlink()
    assert run("cluster-down", *words) == 0
    assert recorder.calls == ["apply -f -", "delete --ignore-not-found -f -"]
    assert set(_kinds(recorder.manifests)) == kinds


def test_a_job_comes_after_what_it_needs_and_says_how_to_send_it_again(recorder: Recorder) -> None:
    options = ("container=mine:1", "queue=prints", "deadline=3600", "parts=redis")
    assert run("submit", *JOB, *options) == 0
    assert recorder.calls == ["apply -f -", "create -f -"]
    assert _kinds(recorder.manifests) == ["ServiceAccount", "NetworkPolicy", "RayJob"]
    job = recorder.manifests[-1]
    assert job["spec"]["metadata"]["again"].endswith(f"'name=two words' {' '.join(options)}")
    assert job["spec"]["activeDeadlineSeconds"] == 3600
    assert job["spec"]["entrypointNumCpus"] == 1
    assert job["metadata"]["labels"] == {
        "kueue.x-k8s.io/queue-name": "prints",
        "pareidolia/cluster": "pareidolia-gpu-job",
    }


@pytest.mark.parametrize("command", ["cluster-up", "submit"])
def test_what_is_named_and_not_there_is_refused_before_anything_is_sent(recorder: Recorder, command: str) -> None:
    words = ("cluster=k8s-gpu",) if command == "cluster-up" else JOB
    recorder.knows_not("registry", "pareidolia-redis", "prints", "high")
    line = refused(command, *words, "pull_secret=registry")
    assert "needs the Secret registry to pull the image, which is not there: make it with `kubectl create secret`" in line
    assert "needs the Secret pareidolia-redis for Redis (its key password)" in refused(command, *words, "parts=redis")
    assert "queue=prints is not there: `kubectl get localqueues` lists" in refused(command, *words, "queue=prints")
    line = refused(command, *words, "queue=other", "priority=high")
    assert "priority=high is not there: `kubectl get workloadpriorityclasses`" in line
    assert recorder.calls == []


def test_what_may_not_be_looked_up_is_left_to_kubernetes(recorder: Recorder) -> None:
    recorder.may_not_see("registry", "prints")
    assert run("cluster-up", "cluster=k8s-gpu", "pull_secret=registry", "queue=prints") == 0
    assert recorder.calls == ["apply -f -"]


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("cluster-up", ("cluster=k8s-gpu", "queue=A"), "queue=A is no name in Kubernetes"),
        ("cluster-up", ("cluster=k8s-gpu", "deadline=60"), "stays until make cluster-down: deadline= is for the jobs"),
        ("cluster-up", ("cluster=aws-gpu", "queue=a"), "starts no containers: queue= is for Kubernetes"),
        ("submit", (*JOB, "priority=a"), "give queue=NAME, too"),
        ("submit", ("cluster=k8s-gpu", "queue=a"), "is up already: queue= goes with make cluster-up"),
        ("submit", ("cluster=k8s-gpu", "deadline=60"), "deadline= is for the jobs of k8s-...-job"),
        ("cluster-down", ("cluster=k8s-gpu", "parts=cash"), "there is no part 'cash': did you mean cache?"),
        ("cluster-down", ("cluster=k8s-gpu", "queue=a"), "cluster-down does not know 'queue=a'"),
    ],
)
def test_words_that_do_not_fit_are_refused(recorder: Recorder, command: str, words: tuple[str, ...], message: str) -> None:
    assert message in refused(command, *words)
    assert not (recorder.directory / "given").exists()


def test_a_spec_of_ones_own_that_is_misshapen_is_one_line(recorder: Recorder) -> None:
    spec = {"headGroupSpec": "none", "workerGroupSpecs": [7]}
    document = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "x"}, "spec": spec}
    file = recorder.directory / "mine.yaml"
    file.write_text(yaml.safe_dump(document))
    for words in (("queue=a",), ("pull_secret=a",), ()):
        assert "is not what KubeRay reads" in refused("cluster-up", f"cluster={file}", *words)


def test_a_driver_runs_on_a_worker_where_the_loss_of_the_head_is_survived(recorder: Recorder) -> None:
    cluster = find_cluster("k8s-gpu")
    assert kubernetes.driver_cpus(cluster) == 0
    (recorder.directory / "recovery").write_text('{"redisAddress":"redis:6379"}')
    assert kubernetes.driver_cpus(cluster) == 1
    assert kubernetes.driver_cpus(find_cluster("local")) == 0
