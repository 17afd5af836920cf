"""State of clusters whose own programs tell of it: kubectl and squeue, whose answers are data of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from render.__main__ import main

#: Pods as kubectl describes them: one runs, one cannot get its image, one is being deleted, one is only known by name.
PODS = [
    {
        "metadata": {"name": "pareidolia-gpu-head-x7k2p", "creationTimestamp": "2026-11-30T09:00:00Z"},
        "spec": {"nodeName": "gke-pareidolia-default-pool-1a2b3c4d-x1y2"},
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {"ready": True, "restartCount": 2, "state": {"running": {"startedAt": "2026-11-30T09:00:05Z"}}},
                {"ready": False, "restartCount": 0, "state": {"running": {}}},
            ],
        },
    },
    {
        "metadata": {"name": "pareidolia-gpu-worker-aa", "creationTimestamp": "2026-11-30T09:01:00Z"},
        "spec": {},
        "status": {
            "phase": "Pending",
            "containerStatuses": [
                {"ready": False, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}
            ],
        },
    },
    {
        "metadata": {"name": "going", "creationTimestamp": "x\x1b[2J", "deletionTimestamp": "2026-11-30T09:02:00Z"},
        "status": {"phase": "Running"},
    },
    {"metadata": {"name": "new"}},
]
JOBS = [
    {
        "metadata": {"name": "poster-f12e5c", "creationTimestamp": "2026-11-30T08:59:00Z"},
        "status": {"jobStatus": "RUNNING", "jobDeploymentStatus": "Running", "startTime": "2026-11-30T09:00:00Z"},
    },
    {"metadata": {"name": "poster-000000", "creationTimestamp": "2026-11-30T10:00:00Z"}},
]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, str]], None]:
    """Put a program on the PATH that gives answers by a word among those that it is called with."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)

    def write(name: str, answers: dict[str, str]) -> None:
        cases = []
        for number, (word, answer) in enumerate(answers.items()):
            (tmp_path / f"{name}-{number}").write_text(answer)
            cases.append(f'*" {word} "*) cat {tmp_path}/{name}-{number} ;;')
        path = tmp_path / "bin" / name
        path.write_text(
            "\n".join(["#!/bin/sh", 'echo "$@" >> calls', 'case " $* " in', *cases, "*) exit 1 ;;", "esac", ""])
        )
        path.chmod(0o755)

    return write


def status(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["cluster-status", *words])
    return code, *capsys.readouterr()


def listed(items: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


@pytest.fixture
def ray_job(tmp_path: Path) -> str:
    """A file that describes a cluster for each job."""
    path = tmp_path / "mine.yaml"
    path.write_text("apiVersion: ray.io/v1\nkind: RayJob\nmetadata: {name: mine}\nspec: {}\n")
    return f"cluster={path}"


def test_pods_and_jobs_on_kubernetes_are_listed(
    program: Callable[..., None], ray_job: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program("kubectl", {"current-context": "here", "pods": listed(PODS), "rayjobs": listed(JOBS)})
    code, out, err = status(capsys, ray_job, "json=true")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["pods"][0] == {
        "pod": "pareidolia-gpu-head-x7k2p", "state": "Running", "containers": 2, "ready_containers": 1, "restarts": 2,
        "node": "gke-pareidolia-default-pool-1a2b3c4d-x1y2", "created": "2026-11-30T09:00:00Z",
    }  # fmt: skip
    assert [pod["state"] for pod in data["pods"]] == ["Running", "ImagePullBackOff", "Terminating", "Unknown"]
    assert data["jobs"] == [
        {
            "job": "poster-f12e5c", "state": "RUNNING", "cluster_state": "Running", "started": "2026-11-30T09:00:00Z",
            "ended": None,
        },
        {
            "job": "poster-000000", "state": "waiting", "cluster_state": None, "started": "2026-11-30T10:00:00Z",
            "ended": None,
        },
    ]  # fmt: skip
    calls = [call for call in (tmp_path / "calls").read_text().splitlines() if "current-context" not in call]
    assert len(calls) == 2 and all(call.startswith("get ") and call.endswith("--output json") for call in calls)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_text_fits_and_is_safe(
    width: int,
    program: Callable[..., None],
    ray_job: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    program("kubectl", {"current-context": "here", "pods": listed(PODS), "rayjobs": listed(JOBS)})
    code, out, err = status(capsys, ray_job)
    assert (code, err) == (0, "")
    assert max(map(cell_len, out.splitlines())) <= width
    for text in ("gke-pareidolia-default-pool-1a2b3c4d-x1y2", "ImagePullBackOff", "1/2", "poster-f12e5c", r"x\x1b[2J"):
        assert text in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    "answer", ["", "[]", '{"items": 3}', '{"items": [{"metadata": {"name": 7}}]}', "{" * 10_000, '{"items": ["x"]}']
)
def test_what_kubectl_never_says_is_refused_in_a_line(
    answer: str, program: Callable[..., None], ray_job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program("kubectl", {"current-context": "here", "pods": answer, "rayjobs": listed([])})
    code, out, err = status(capsys, ray_job, "json=true")
    assert (code, out) == (2, "")
    assert err.startswith("render: cluster=") and "what kubectl tells of pods cannot be read" in err
    assert len(err.splitlines()) == 1


def test_jobs_in_the_queue_of_slurm_are_listed(program: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("sbatch", "scancel", "scontrol"):
        program(name, {})
    lines = [
        "17|RUNNING|1-02:03:04|4|None|poster",
        "18_[0-3]|PENDING|0:00|1|Resources|a | b \x1b[2J",
        "19|COMPLETING|INVALID|?|None|x",
        "not a job",
    ]
    program("squeue", {"--me": "\n".join(lines) + "\n"})
    code, out, err = status(capsys, "cluster=slurm", "json=true")
    assert (code, err) == (0, "")
    assert json.loads(out)["jobs"] == [
        {"job": "17", "name": "poster", "state": "running", "elapsed_seconds": 93784, "nodes": 4, "reason": None},
        {
            "job": "18_[0-3]", "name": "a | b \x1b[2J", "state": "pending", "elapsed_seconds": 0, "nodes": 1,
            "reason": "Resources",
        },
        {"job": "19", "name": "x", "state": "completing", "elapsed_seconds": None, "nodes": None, "reason": None},
    ]  # fmt: skip
    code, out, _ = status(capsys, "cluster=slurm")
    assert code == 0 and "26 h 3 min" in out and r"a | b \x1b[2J" in out


def test_an_empty_queue_is_said(program: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("sbatch", "scancel", "scontrol"):
        program(name, {})
    program("squeue", {"--me": ""})
    assert status(capsys, "cluster=slurm") == (0, "no jobs\n", "")
    assert json.loads(status(capsys, "cluster=slurm", "json=true")[1])["jobs"] == []


def test_pods_are_told_where_nothing_answers(
    program: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """They say why: here an image that cannot be had."""
    (tmp_path / "up.yaml").write_text("apiVersion: ray.io/v1\nkind: RayCluster\nmetadata: {name: up}\nspec: {}\n")
    program("kubectl", {"current-context": "here", "pods": listed(PODS)})
    code, out, err = status(capsys, f"cluster={tmp_path / 'up.yaml'}")
    assert code == 2 and "ImagePullBackOff" in out
    assert err.startswith("render: ") and len(err.splitlines()) == 1
    code, out, err = status(capsys, f"cluster={tmp_path / 'up.yaml'}", "json=true")
    assert (code, out) == (2, "") and err.startswith("render: ")
