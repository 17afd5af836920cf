"""A cluster on machines of the user's own: by real ssh on simulated hosts, and what is refused before anything starts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from render.cluster import own_nodes
from render.commands import clusters
from render.farm.versions import own_versions
from render.networks.weights import Loaded
from render.system.paths import cache_directory
from tests.cluster.test_launch import SMALL, Command, refused, run
from tests.conftest import INLINE, ROOT, rendered
from tests.support import sshd
from tests.support.debian_packages import NotInstalled
from tests.support.hosts import Host, NotPermitted, hosts

_TOKEN = {"RAY_AUTH_TOKEN": "own-machines-0123456789abcdef"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache in which no cluster is noted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pareidolia" / "clusters"


# What is refused at once


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("cluster=own",), "nodes=HOST,HOST"),
        (("cluster=own", "nodes=-oProxyCommand=touch${IFS}x,b"), "is no name of a host"),
        (("cluster=own", "nodes=a,b c"), "'b c' is no name of a host"),
        (("cluster=own", "nodes=a,b,a"), "has a twice"),
        (("cluster=local", "nodes=a"), "nodes= is for cluster=own"),
        (("cluster=http://127.0.0.1:1", "nodes=a"), "nodes= is for cluster=own"),
    ],
)
def test_words_that_name_no_machines_are_refused(words: tuple[str, ...], part: str) -> None:
    assert part in refused("cluster-up", *words)


def test_a_cluster_that_is_not_up_is_said() -> None:
    assert "is not up: make cluster-up cluster=own nodes=" in refused("cluster-status", "cluster=own")
    assert "was not started from here" in refused("cluster-down", "cluster=own")
    assert "end it with `ray stop`" in refused("cluster-down", "cluster=local")


@pytest.mark.parametrize("text", ["[]", "{", '{"hosts": ["-oX=y"]}', '{"hosts": [1]}', '{"hosts": ["a"], "port": "x"}'])
def test_a_damaged_record_is_never_believed(cache: Path, text: str) -> None:
    cache.mkdir(parents=True)
    (cache / "own.json").write_text(text)
    assert "is damaged: remove it" in refused("cluster-down", "cluster=own")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Programs of its directory `bin` are found first."""
    runner = Command(tmp_path)
    monkeypatch.setenv("PATH", runner.environment["PATH"])
    monkeypatch.setenv("RAY_AUTH_TOKEN", _TOKEN["RAY_AUTH_TOKEN"])
    return runner


def test_other_versions_on_nodes_are_named_with_both_sides_and_nothing_starts(command: Command) -> None:
    here = {**own_versions(), "ray": ray.__version__, "python": "{}.{}.{}".format(*sys.version_info)}
    there = {"first": here, "second": {**here, "python": "3.12.9"}, "third": {**here, "render": "0.0.9"}}
    calls = command.stub(
        "ssh",
        f"there = json.loads({json.dumps(there)!r})\nprogram = sys.stdin.read()\nassert 'check' in program\n"
        "host = words[words.index('--') + 1]\n"
        "print('Welcome!')\n"
        "print('pareidolia-node:' + json.dumps({'versions': there[host], 'address': '10.0.0.1', 'missing': []}))",
    )
    line = refused("cluster-up", "cluster=own", "nodes=first,second,third")
    assert f"version mismatch: python {here['python']} on first, python 3.12.9 on second" in line
    assert f"render {here['render']} on first, render 0.0.9 on third" in line
    assert len(calls.read_text().splitlines()) == 3
    assert _TOKEN["RAY_AUTH_TOKEN"] not in calls.read_text()
    line = refused("cluster-up", "cluster=own", "nodes=third")
    assert f"version mismatch: render {here['render']} here, render 0.0.9 on third" in line
    assert "is not up" in refused("cluster-status", "cluster=own")


def test_ctrl_c_says_what_may_be_running_and_how_to_end_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {**own_versions(), "ray": ray.__version__, "python": "{}.{}.{}".format(*sys.version_info)}
    answer = {"versions": here, "address": "10.0.0.1", "missing": []}

    def ask(node: own_nodes.Node, action: str, _request: Mapping[str, Any]) -> dict[str, Any]:
        if action == "check":
            return answer
        raise KeyboardInterrupt

    monkeypatch.setattr(own_nodes.Node, "ask", ask)
    with pytest.raises(KeyboardInterrupt, match=r"its head may be running: make cluster-status cluster=own .*cluster-down"):
        run("cluster-up", "preview", "cluster=own", "nodes=first,second")
    monkeypatch.setattr(own_nodes.Node, "ask", lambda node, action, _request: {"ended": len(node.host)})
    # What was noted before the start is enough to end it.
    assert run("cluster-down", "preview", "cluster=own") == 0


@pytest.mark.parametrize("name", ["aws-gpu", "k8s-gpu"])
def test_ctrl_c_says_that_a_head_may_cost(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(clusters, "require_tools", lambda *_: None)
    monkeypatch.setattr(clusters.autoscaler, "up", interrupted)
    monkeypatch.setattr(clusters.kubernetes, "up", interrupted)
    if name.startswith("k8s") and shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    with pytest.raises(KeyboardInterrupt, match=rf"may be running, and costing money: .*make cluster-down cluster={name}"):
        run("cluster-up", "preview", f"cluster={name}")


def test_the_interpreter_is_looked_for_by_its_path_then_by_the_command(tmp_path: Path) -> None:
    def said(path: str, *candidates: str) -> tuple[int, str]:
        finished = subprocess.run(
            ["sh", "-c", own_nodes._FIND_PYTHON, "sh", *candidates],
            input="import sys; print(sys.executable)", capture_output=True, text=True, cwd=tmp_path,
            env={"PATH": f"{path}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return finished.returncode, finished.stdout.strip()

    nowhere = str(tmp_path / "nowhere")
    assert said(nowhere, sys.executable) == (0, sys.executable)
    assert said(nowhere, nowhere) == (127, "")
    # An interpreter without the program is none.
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    assert said(nowhere, str(bare)) == (127, "")
    script = tmp_path / "pareidolia"
    for head in (f"#!{sys.executable}", f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''"):
        script.write_text(f"{head}\nfrom render.__main__ import main\n")
        script.chmod(0o755)
        assert said(str(tmp_path), nowhere) == (0, sys.executable)


# On hosts with ssh


@dataclass
class Machines:
    """Two hosts with ssh, a directory that they share, and a command line that knows them as `head` and `left`."""

    hosts: list[Host]
    command: Command
    directory: Path

    def left_running(self) -> list[str]:
        """Return the processes of Ray's on the hosts."""
        listed = [host.run("ps", "-eo", "args").stdout.splitlines() for host in self.hosts]
        return [line for lines in listed for line in lines if "/ray/" in line or line.startswith("ray::")]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, inception: Loaded) -> Iterator[Machines]:
    try:
        sshd.ensure_installed()
    except NotInstalled as reason:
        pytest.skip(str(reason))
    directory = tmp_path_factory.mktemp("ssh")
    weights = cache_directory() / "weights"
    session = {"HOME": "/tmp/home", "XDG_CACHE_HOME": "/tmp/home/.cache", "PYTHONPATH": str(ROOT)}
    try:
        with (
            hosts(["head", "left"], {}, [ROOT, Path(sys.prefix), weights, directory]) as (_here, both),
            sshd.serving(directory, both, session) as config,
        ):
            for host in both:
                host.run("mkdir", "-p", "/tmp/home/.cache/pareidolia")
                host.run("ln", "-s", str(weights), "/tmp/home/.cache/pareidolia")
            (directory / "command").mkdir()
            command = Command(directory / "command")
            # A user's own configuration; ssh itself looks for it in the home that the system notes, not in $HOME.
            command.stub("ssh", f"os.execv({shutil.which('ssh')!r}, ['ssh', '-F', {str(config)!r}, *words])")
            command.environment |= {"XDG_CACHE_HOME": str(directory / "cache"), **_TOKEN}
            # On a busy machine Ray's nodes start late, or only when they are started again.
            command.patience_s = 1200.0
            yield Machines(both, command, directory)
            for process in command.processes:
                process.kill()
                process.communicate()
    except NotPermitted as reason:
        pytest.skip(f"hosts cannot be simulated here: {reason}")


def test_machines_that_ssh_does_not_reach_are_named_with_the_reasons(machines: Machines) -> None:
    line = machines.command.refused("cluster-up", "cluster=own", "nodes=head,uninvited,closed,nowhere.invalid")
    head = machines.hosts[0]
    for host, reason in (
        ("uninvited", f"root@{head.address}: Permission denied (publickey"),
        ("closed", f"ssh: connect to host {head.address} port 23: Connection refused"),
        ("nowhere.invalid", "ssh: Could not resolve hostname nowhere.invalid"),
    ):
        assert f"{host} cannot be reached by ssh ({reason}" in line
        assert f"`ssh {host} true` must work" in line
    assert "head cannot" not in line
    assert "is not up" in machines.command.refused("cluster-status", "cluster=own")
    assert machines.left_running() == []


def test_a_machine_without_the_program_is_named(machines: Machines) -> None:
    line = machines.command.refused("cluster-up", "cluster=own", "nodes=head,left", "python=/usr/bin/absent")
    for host in ("head", "left"):
        assert f"{host} does not have the program: neither /usr/bin/absent nor the command `pareidolia`" in line


@pytest.mark.slow
def test_ray_that_does_not_start_on_one_machine_is_ended_on_all(machines: Machines) -> None:
    for host, limit in zip(machines.hosts, ("", "ulimit -n 24;"), strict=True):
        host.run("sh", "-c", f"printf '#!/bin/sh\\n{limit} exec {sys.executable} \"$@\"\\n' > /tmp/python")
        host.run("chmod", "755", "/tmp/python")
    line = machines.command.refused("cluster-up", "cluster=own", "nodes=head,left", "python=/tmp/python")
    assert "left: Ray does not start there, tried twice" in line
    assert machines.left_running() == []
    assert [host.run("sh", "-c", "ls -d /tmp/pareidolia-ray-*").stdout for host in machines.hosts] == ["", ""]
    assert "is not up" in machines.command.refused("cluster-status", "cluster=own")


@pytest.mark.slow
def test_a_cluster_by_ssh_renders_and_goes_without_a_trace(machines: Machines, tmp_path: Path) -> None:
    """The hosts' PATH has no environment with the program: jobs use the interpreter that Ray was started with."""
    command = machines.command
    code, out, err = command("cluster-up", "cluster=own", "nodes=head")
    assert code == 0, err
    code, out, err = command("cluster-up", "cluster=own", "nodes=head,left")
    assert code == 0, err
    assert "on 2 machines, 1 of them started now" in out
    code, out, err = command("cluster-status", "cluster=own")
    assert code == 0, err
    assert "2 nodes" in out
    assert machines.hosts[1].address in out
    line = command.refused("cluster-status", "cluster=own", RAY_AUTH_TOKEN="another-0123456789abcdef")
    assert "does not take the token that this machine has" in line
    words = [word for word in SMALL if not word.startswith(("farm.workers", "shared"))]
    run_directory = machines.directory / "dream"
    code, out, err = command("submit", "cluster=own", *words, "shared=true", f"output.dir={run_directory}")
    assert code == 0, (out, err)
    record = json.loads((run_directory / "run.json").read_text())
    assert record["status"] == "finished"
    assert sorted(worker["host"] for worker in record["workers"]) == ["head", "left"]
    rendered(tmp_path / "here", *words, INLINE)
    assert (run_directory / "preview.png").read_bytes() == (tmp_path / "here" / "preview.png").read_bytes()
    code, out, err = command("cluster-down", "cluster=own")
    assert code == 0, err
    assert machines.left_running() == []
    assert [host.run("sh", "-c", "ls -d /tmp/pareidolia-ray-*").stdout for host in machines.hosts] == ["", ""]
