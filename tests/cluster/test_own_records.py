"""What is noted of a cluster on machines of the user's own, and what that does when starts fail or machines leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray

from render.cluster import node_program, own, own_nodes
from render.cluster.cluster_files import find_cluster
from render.cluster.dashboard import Dashboard
from render.errors import UserError
from render.farm.versions import own_versions
from tests.cluster.test_launch import refused, run

LOST = UserError("left cannot be reached by ssh (broken pipe)")


class Machines:
    """Machines that answer as their program would; `answers` replaces answers by action and host.

    Attributes:
        asked: Actions, hosts and requests so far.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Mapping[str, Any]]] = []
        self.answers: dict[tuple[str, str], dict[str, Any] | UserError] = {}

    def answer(self, node: own_nodes.Node, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((action, node.host, dict(request)))
        versions = {**own_versions(), "ray": ray.__version__, "python": "{}.{}.{}".format(*sys.version_info)}
        start = {"began": True, "address": "10.0.0.1", "port": 6379, "dashboard": 8270, "directory": "/tmp/x"}
        usual = {
            "check": {"versions": versions, "address": "10.0.0.1", "missing": []},
            "start": start,
            "stop": {"ended": 3},
        }
        answer = self.answers.get((action, node.host), usual[action])
        if isinstance(answer, UserError):
            raise answer
        return answer

    def hosts(self, action: str) -> list[str]:
        return sorted(host for asked, host, _ in self.asked if asked == action)


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the cluster `own` is noted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "own-machines-0123456789abcdef")
    return tmp_path / "pareidolia" / "clusters" / "own.json"


@pytest.fixture
def machines(record: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    stub = Machines()

    def ask(node: own_nodes.Node, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return stub.answer(node, action, request)

    monkeypatch.setattr(own_nodes.Node, "ask", ask)
    return stub


def up(*words: str) -> int:
    return run("cluster-up", "preview", "cluster=own", *words)


def down(*words: str) -> int:
    return run("cluster-down", "preview", "cluster=own", *words)


# Identity


def test_every_request_has_the_id_of_the_cluster(machines: Machines, record: Path) -> None:
    up("nodes=head,left")
    first = json.loads(record.read_text())["id"]
    assert len(first) == 6
    down()
    assert {request["id"] for _, _, request in machines.asked} == {first}
    up("nodes=head")
    assert json.loads(record.read_text())["id"] != first


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the id in the program's request; its word is this test's own."""

    def set_id(cluster_id: str) -> None:
        monkeypatch.setattr(node_program, "REQUEST", {"name": f"test{os.getpid()}", "id": cluster_id})

    return set_id


@pytest.fixture
def processes() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a process with the mark of a cluster."""
    started: list[subprocess.Popen[bytes]] = []

    def start(mark: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "60"], env={**os.environ, node_program.MARK: mark}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_only_processes_and_directories_of_the_same_id_and_user_are_ended(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: Callable[[str], None],
    processes: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    word = f"test{os.getpid()}"
    ours, others, another_word = (processes(mark) for mark in (f"{word}-aaaaaa", f"{word}-bbbbbb", f"{word}x-aaaaaa"))
    monkeypatch.setattr(node_program, "_PLACE", tmp_path)
    for name in ("aaaaaa", "bbbbbb"):
        (tmp_path / f"pareidolia-ray-{word}-{name}-x").mkdir()
    program("aaaaaa")
    with monkeypatch.context() as patch:
        patch.setattr(node_program.os, "getuid", lambda: 54321)
        assert node_program.members() == []
    assert node_program.stop() == {"ended": 1}
    ours.wait(10)
    assert others.poll() is None
    assert [path.name for path in tmp_path.iterdir()] == [f"pareidolia-ray-{word}-bbbbbb-x"]
    # Without a record of the cluster, any of that word.
    program("")
    assert node_program.stop() == {"ended": 1}
    others.wait(10)
    assert another_word.poll() is None
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("connection", "address"),
    [
        ("10.0.0.9 5000 10.0.0.1 22", "10.0.0.1"),
        ("2001:db8::9 5000 2001:db8::1 22", ""),
        ("fe80::9%eth0 5000 fe80::1%eth0 22", ""),
        ("127.0.0.1 5000 127.0.0.1 22", ""),
        ("", ""),
    ],
)
def test_only_an_ipv4_address_of_ssh_is_one_for_ray(monkeypatch: pytest.MonkeyPatch, connection: str, address: str) -> None:
    monkeypatch.setenv("SSH_CONNECTION", connection)
    assert node_program.own_address() == address


# Starts that fail


def test_machine_whose_start_is_cut_off_is_stopped_too(machines: Machines, record: Path) -> None:
    machines.answers["start", "left"] = LOST
    assert refused("cluster-up", "cluster=own", "nodes=head,left,right") == str(LOST)
    assert machines.hosts("stop") == ["head", "left", "right"]
    assert not record.exists()


def test_machine_on_which_ray_may_be_left_is_noted_and_named(machines: Machines, record: Path) -> None:
    machines.answers["start", "left"] = machines.answers["stop", "left"] = LOST
    line = refused("cluster-up", "cluster=own", "nodes=head,left")
    assert line == f"{LOST}; Ray may still run on left: make cluster-down cluster=own ends it"
    assert json.loads(record.read_text())["hosts"] == ["head", "left"]
    assert "is not up" in refused("cluster-status", "cluster=own")
    del machines.answers["stop", "left"]
    assert down() == 0
    assert not record.exists()


def test_head_whose_start_is_cut_off_is_stopped(machines: Machines, record: Path) -> None:
    machines.answers["start", "head"] = LOST
    refused("cluster-up", "cluster=own", "nodes=head,left")
    assert machines.hosts("stop") == ["head"]
    assert not record.exists()


def test_failed_addition_leaves_the_cluster_as_it_was(machines: Machines, record: Path) -> None:
    up("nodes=head,left")
    before = json.loads(record.read_text())
    for host in ("head", "left"):
        machines.answers["start", host] = {"began": False}
    machines.answers["start", "left"] = machines.answers["start", "right"] = LOST
    refused("cluster-up", "cluster=own", "nodes=head,right")
    assert machines.hosts("stop") == ["right"]
    assert json.loads(record.read_text()) == before
    machines.answers["stop", "right"] = LOST
    assert "may still run on right" in refused("cluster-up", "cluster=own", "nodes=head,right")
    assert json.loads(record.read_text()) == before | {"hosts": ["head", "left", "right"]}


def test_interpreter_that_cannot_be_run_is_one_line(record: Path) -> None:
    line = refused("cluster-up", "cluster=local", "python=/nope")
    assert line == (
        "localhost: /nope cannot be run (No such file or directory): python=PATH names an interpreter that has the program"
    )


# Machines that leave


def test_machines_leave_while_the_others_go_on(
    machines: Machines, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up("nodes=head,left,right")
    assert down("nodes=left") == 0
    assert "3 processes ended on left; own goes on on 2 machines" in capsys.readouterr().out
    assert machines.hosts("stop") == ["left"]
    assert json.loads(record.read_text())["hosts"] == ["head", "right"]
    assert "head is the head, without which the others are of no use" in refused(
        "cluster-down", "cluster=own", "nodes=head"
    )
    line = refused("cluster-down", "cluster=own", "nodes=left")
    assert line == "nodes=: cluster=own does not have left: it is on head, right"
    assert machines.hosts("stop") == ["left"]
    assert down("nodes=right,head") == 0
    assert not record.exists()


def test_cluster_without_a_record_is_ended_by_its_word(machines: Machines) -> None:
    assert down("nodes=head,left") == 0
    assert [request["id"] for _, _, request in machines.asked] == ["", ""]


def test_local_takes_no_machines_down(machines: Machines) -> None:
    line = refused("cluster-down", "cluster=local", "nodes=head")
    assert line == "cluster=local is this machine: nodes= is for cluster=own"
    assert machines.asked == []


def test_head_on_this_machine_is_reached_without_ssh(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    up("nodes=localhost,left")
    monkeypatch.setattr(own, "forwarded", lambda *_: pytest.fail("a tunnel"))
    monkeypatch.setattr(Dashboard, "greeted", lambda dashboard: dashboard)
    with own.reached(find_cluster("own")) as dashboard:
        assert dashboard.url == "http://127.0.0.1:8270"
