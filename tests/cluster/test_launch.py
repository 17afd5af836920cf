"""Clusters from this machine: names, tools, tunnels, and jobs on a real Ray with its token and dashboard on loopback."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from render.cluster import jobs
from render.cluster.autoscaler import _file
from render.cluster.cluster_files import cluster_names, find_cluster
from render.cluster.dashboard import Dashboard
from render.cluster.packing import JOB_FILE, MAX_BYTES, pack, portable_settings
from render.cluster.tools import google_project, require_ray, require_tools
from render.commands import cluster_jobs
from render.commands.table import COMMANDS
from render.config.compose import load_config, root_configs
from render.config.root_kinds import JOB
from render.system.version import __version__
from tests.conftest import ROOT, refusal
from tests.support import ray_head

#: A second and a half of work, saved at every step.
SMALL = (
    "image=sample:chelsea", "output.width=96", "output.height=120", "octaves.count=1", "octaves.steps=2", "farm.workers=1",
    "objective.terms=[mixed0]", "tiles.size=48", "checkpoint.every=0", "shared=true",
)  # fmt: skip


@pytest.fixture(scope="module")
def head() -> Iterator[ray_head.Head]:
    with ray_head.started() as started:
        yield started


class Command:
    """`python -m render` in an empty directory and an empty home: no credentials, no token, no Ray."""

    #: Longest time that a command may take, s.
    patience_s = 240.0

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs = directory / "bin"
        self.processes: list[subprocess.Popen] = []
        self.programs.mkdir()
        (directory / "home").mkdir()
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "RENDER_", "AWS_", "GOOGLE_"))
        }
        self.environment = {
            **inherited,
            "HOME": str(directory / "home"),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_GCE_CHECK": "true",
        }

    def start(self, *words: str, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "render", *words],
            cwd=self.directory, env=self.environment | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def __call__(self, *words: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=self.patience_s)
        return process.returncode, out, err

    def refused(self, *words: str, **environment: str) -> str:
        """Return the line of a refusal, which has exit code 2."""
        code, out, err = self(*words, **environment)
        assert code == 2, (code, out, err)
        (line,) = err.strip().splitlines()
        assert line.startswith("render: ")
        return line

    def stub(self, name: str, script: str) -> Path:
        """Write a program on the path that records its words, a line for each call, and runs a Python script."""
        calls = self.directory / f"{name}.calls"
        calls.touch()
        program = self.programs / name
        program.write_text(
            f"#!{sys.executable}\nimport json, os, sys\nwords = sys.argv[1:]\n"
            f"with open({str(calls)!r}, 'a') as file: file.write(json.dumps(words) + '\\n')\n{script}\n"
        )
        program.chmod(0o755)
        return calls


def run(name: str, root: str, *words: str) -> int:
    """Run a command about a cluster in this process; return its exit code."""
    command = COMMANDS[name]
    return command.load()(words) if command.root is None else command.load()(root, words)


def refused(command: str, *words: str) -> str:
    """Return the line of a refusal in this process."""
    return refusal(lambda: run(command, "preview", *words))


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    runner = Command(tmp_path)
    yield runner
    for process in runner.processes:
        process.kill()
        process.communicate()


def written(path: Path, document: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(document))
    return str(path)


def autoscaler(path: Path, kind: str, **more: Any) -> str:
    return written(path, {"cluster_name": "small", "provider": {"type": kind, "project_id": "dreams-1"}, **more})


def ray_cluster(path: Path, **annotations: str) -> str:
    spec = {"authOptions": {"mode": "token"}, "headGroupSpec": {"template": {"spec": {"containers": [{"image": "none"}]}}}}
    metadata = {"name": "small", "namespace": "art", "annotations": annotations}
    return written(path, {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata, "spec": spec})


def ray_job(path: Path) -> str:
    spec = {
        "entrypoint": "python -m render render conf=preview output.dir=gs://B/x farm.address=auto farm.workers=4",
        "rayClusterSpec": {"headGroupSpec": {"template": {"spec": {"containers": [{"image": "none"}]}}}},
    }
    return written(path, {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "once"}, "spec": spec})


# Names


def test_an_unknown_cluster_is_refused_with_those_there_are(command: Command) -> None:
    line = command.refused("cluster-status", "cluster=locla")
    assert "there is no cluster 'locla': did you mean local?" in line
    for name in cluster_names():
        assert name in line
    assert "which cluster? cluster=NAME" in refused("submit")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\n", "describes no cluster"),
        ("a: [\n", "cannot be read"),
        ("kind: Deployment\n", "describes no cluster"),
        ("", "describes no cluster"),
    ],
)
def test_a_file_that_is_no_cluster_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert words in refusal(lambda: find_cluster(str(tmp_path / "mine.yaml")))
    assert "no such file" in refusal(lambda: find_cluster(str(tmp_path / "other.yaml")))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"kind": "RayCluster", "spec": {}}, "has no metadata.name: the name of the RayCluster"),
        ({"kind": "RayJob", "metadata": {"name": 7}, "spec": {}}, "has no metadata.name"),
        ({"kind": "RayJob", "metadata": {"name": "x"}}, "has no spec"),
        ({"kind": "RayJob", "metadata": {"name": "x"}, "spec": {"entrypoint": "python 'oops"}}, "no command of a shell"),
        (
            {"kind": "RayCluster", "metadata": {"name": "x", "annotations": ["a"]}, "spec": {}},
            "must be a list of key=value",
        ),
        (
            {"kind": "RayCluster", "metadata": {"name": "x", "annotations": {"pareidolia/submit": '"a=b"'}}, "spec": {}},
            "pareidolia/submit must be a list of key=value",
        ),
        ({"cluster_name": "x", "provider": {"type": "local"}, "metadata": ["a=b"]}, "metadata must be pairs"),
        (
            {"cluster_name": "x", "provider": {"type": "local"}, "metadata": {"submit": "farm.workers=4"}},
            "metadata.submit must be a list of key=value",
        ),
    ],
)
def test_what_is_misshapen_in_a_clusters_file_is_said_before_the_job_is_composed(
    tmp_path: Path, document: dict[str, Any], words: str
) -> None:
    file = written(tmp_path / "mine.yaml", document)
    assert words in refused("submit", f"cluster={file}", "image=noise", "output.dir=s3://b/x")


@pytest.mark.parametrize("word", ["http://", "http://[::1", "https://host:port", "http://host:99999"])
def test_an_address_that_is_none_is_refused(word: str) -> None:
    assert "is no address of a dashboard" in refused("cluster-status", f"cluster={word}")


@pytest.mark.parametrize("name", ["poster", "Große Platte", "2026 prints", "", "x" * 39 + " y", "-" * 60])
def test_a_jobs_id_is_a_name_that_kubernetes_takes(name: str) -> None:
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", jobs.job_id(name))


def test_every_file_in_cluster_that_is_offered_is_a_cluster() -> None:
    for name in cluster_names():
        if not name.startswith("k8s-") or shutil.which("kubectl"):
            assert find_cluster(name).word == name


def test_options_of_other_commands_are_refused() -> None:
    assert "attach does not know 'run=x'" in refused("attach", "cluster=local", "run=x")
    assert "follow=maybe: must be true or false" in refused("submit", "cluster=local", "follow=maybe")
    assert "start it with `ray start --head`" in refused("cluster-up", "cluster=http://127.0.0.1:1")


# Tools and credentials


def test_a_missing_program_is_named_with_where_to_get_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(command.programs))
    cluster = find_cluster(ray_cluster(command.directory / "k.yaml"))
    assert "needs kubectl, which is not on this machine: install it" in refusal(lambda: require_tools(cluster, "submit"))
    batch = command.directory / "batch.sh"
    batch.write_text("#!/bin/bash\n#SBATCH --nodes=2\n")
    assert "needs sbatch" in refusal(lambda: require_tools(find_cluster(str(batch)), "submit"))
    aws = find_cluster(autoscaler(command.directory / "a.yaml", "aws"))
    assert "needs ssh" in refusal(lambda: require_tools(aws, "cluster-up"))


def test_rays_parts_are_found_whether_or_not_they_are_imported() -> None:
    require_ray()
    import colorful  # type: ignore[import-untyped]  # noqa: F401

    require_ray()


@pytest.mark.parametrize(("cloud", "module", "extra"), [("aws", "boto3", "aws"), ("gcp", "googleapiclient", "gcp")])
def test_a_missing_package_is_named_with_the_extra_that_has_it(
    command: Command, monkeypatch: pytest.MonkeyPatch, cloud: str, module: str, extra: str
) -> None:
    for name in ("ssh", "rsync"):
        command.stub(name, "")
    monkeypatch.setenv("PATH", str(command.programs))
    find_spec = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == module else find_spec(name, *rest))
    cluster = find_cluster(autoscaler(command.directory / "c.yaml", cloud))
    line = refusal(lambda: require_tools(cluster, "cluster-up"))
    assert f"needs the package {module}" in line
    assert f"EXTRAS={extra}" in line


def test_missing_credentials_are_said_before_anything_is_started(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    for name in ("ssh", "rsync"):
        assert command.stub(name, "").read_text() == ""
    file = autoscaler(command.directory / "aws.yaml", "aws")
    message = "needs AWS credentials (there are none): run `aws configure`"
    assert message in command.refused("cluster-up", f"cluster={file}")
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name in ("HOME", "PATH", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.setenv(name, command.environment[name])
    for words in (("attach", "job=x"), ("submit", "image=noise", "output.dir=s3://bucket/run")):
        assert message in refused(words[0], f"cluster={file}", *words[1:])
    assert (command.directory / "ssh.calls").read_text() == ""


def test_google_needs_credentials_and_a_project_and_ray_is_told_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    google = pytest.importorskip("google.auth")
    file = tmp_path / "mine.yaml"
    autoscaler(file, "gcp")
    document = yaml.safe_load(file.read_text())
    document["provider"]["project_id"] = None
    cluster = find_cluster(written(file, document))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    assert "needs Google Cloud credentials" in refusal(lambda: google_project(cluster))
    monkeypatch.setattr(google, "default", lambda: (None, None))
    assert "needs a project: `gcloud config set project PROJECT`" in refusal(lambda: google_project(cluster))
    monkeypatch.setattr(google, "default", lambda: (None, "dreams-7"))
    copy = _file(cluster)
    assert copy != file
    document["provider"]["project_id"] = "dreams-7"
    assert yaml.safe_load(copy.read_text()) == document
    unchanged = find_cluster(autoscaler(tmp_path / "own.yaml", "gcp"))
    assert _file(unchanged) == tmp_path / "own.yaml"


def test_kubectl_without_a_context_is_said(command: Command) -> None:
    command.stub("kubectl", "sys.exit('error: current-context is not set')")
    line = command.refused("cluster-status", f"cluster={ray_cluster(command.directory / 'k.yaml')}")
    assert "kubectl has no context (error: current-context is not set)" in line


# What answers


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        code, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[Callable[[int, bytes], str]]:
    """Yield a server on loopback that gives every request the same answer."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def answers(code: int, body: bytes) -> str:
        server.answer = (code, body)  # type: ignore[attr-defined]
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield answers
    server.shutdown()
    server.server_close()


def test_what_is_no_dashboard_of_ray_is_said(answering: Callable[[int, bytes], str]) -> None:
    for code, body in ((200, b"<html>"), (200, b"[]"), (404, b"")):
        url = answering(code, body)
        line = refusal(Dashboard("it", url, None).greeted)
        assert url in line
        assert "is not the dashboard" in line or "no Ray dashboard" in line
    assert "asks for a token, and this machine has none" in refusal(Dashboard("it", answering(401, b""), None).greeted)


def test_where_nothing_listens_is_said(command: Command) -> None:
    line = command.refused("cluster-status", "cluster=http://127.0.0.1:9")
    assert "no Ray dashboard answers at http://127.0.0.1:9 (Connection refused): is the cluster up?" in line


def test_another_ray_is_refused_with_both_versions(command: Command, answering: Callable[[int, bytes], str]) -> None:
    import ray

    url = answering(200, b'{"ray_version": "2.1.0"}')
    line = command.refused("submit", f"cluster={url}", "image=noise", "output.dir=s3://bucket/run")
    assert f"Ray {ray.__version__} here, Ray 2.1.0 on the cluster" in line


# What travels


@pytest.mark.parametrize("root", root_configs(JOB))
def test_the_config_arrives_as_it_was_composed(root: str, tmp_path: Path) -> None:
    """One file holds the whole config, also text that YAML or OmegaConf could misread."""
    (tmp_path / "job").mkdir()
    words = ["output.dir=s3://b/${x}", "name=1e5", "output.title=null # 'on' ünï", "step_size=1e-05"]
    settings, files = portable_settings(load_config(root, words), shared=False)
    assert files == {}
    pack(settings, files, tmp_path / "job")
    arrived = load_config(str(tmp_path / "job" / JOB_FILE), [])
    assert asdict(arrived) == settings
    assert arrived.farm.address == "auto"
    assert arrived.output.dir == "s3://b/${x}"
    assert arrived.name == "1e5"


def test_files_of_this_machine_are_brought_along_under_their_own_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("me.jpg", "weights.npz", "places.txt", "flower.jpg", "sky.png", "brick.jpg", "warm.png"):
        (tmp_path / name).write_bytes(name.encode())
    config = load_config(
        "preview",
        [
            "image=me.jpg", "model.weights=weights.npz", "model.labels=places.txt", "output.dir=gs://b/run",
            "output.match=warm.png",
            "objective.mask={image: sky.png, invert: true}",
            "objective.terms=[{layer: mixed4, guide: flower.jpg}, {layer: mixed3, guide: 'sample:rocket'},"
            "{layers: [mixed0], texture: brick.jpg}]",
            "objective.regions=[{mask: sky.png, terms: [mixed2]}, {mask: 's3://b/hair.png', terms: [mixed3]}]",
        ],
    )  # fmt: skip
    settings, files = portable_settings(config, shared=False)
    (tmp_path / "job").mkdir()
    pack(settings, files, tmp_path / "job")
    arrived = load_config(str(tmp_path / "job" / JOB_FILE), [])
    assert arrived.output.match is not None
    named = [
        arrived.image, arrived.model.weights, arrived.model.labels, arrived.objective.mask["image"],
        arrived.objective.terms[0]["guide"], arrived.objective.terms[2]["texture"], arrived.output.match,
    ]  # fmt: skip
    originals = ("me.jpg", "weights.npz", "places.txt", "sky.png", "flower.jpg", "brick.jpg", "warm.png")
    for name, original in zip(named, originals, strict=True):
        assert name.rpartition("/")[2] == original
        assert (tmp_path / "job" / name).read_bytes() == original.encode()
    assert arrived.objective.terms[1]["guide"] == "sample:rocket"
    assert arrived.objective.regions[0]["mask"] == arrived.objective.mask["image"]
    assert arrived.objective.regions[1]["mask"] == "s3://b/hair.png"
    assert len(files) == 7
    for match in ("source", "sample:coffee"):
        config = load_config("preview", ["output.dir=gs://b/run", f"output.match={match}"])
        assert portable_settings(config, shared=False)[0]["output"]["match"] == match


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["output.dir=s3://b/run", "image=none.jpg"], "image=none.jpg: there is no such file"),
        (["output.dir=s3://b/run", "image=large.tif"], "brings at most 100 MB along: put it into the bucket"),
        ([], "needs output.dir"),
        (["output.dir=dreams/x"], "output.dir=dreams/x would be left on a node"),
        (["output.dir=s4://b/run"], "s4:// is not known: take s3://, gs://, az://"),
        (["output.dir=/dreams/x"], "output.dir=/dreams/x would be left on a node"),
        (["output.dir=dreams/x", "shared=true"], "output.dir=dreams/x would be left on a node"),
        (["output.dir=s3://b/run", "output.path=me.png"], "output.path=me.png would be left on a node"),
        (["output.dir=s3://b/run", "output.also=[tiff,me.dzi]"], "output.also=me.dzi would be left on a node"),
        (["output.dir=s3://b/run", "octaves.step=3"], "unknown config key 'octaves.step'"),
        (["output.dir=s3://b/run", "octaves.scale=0.5"], "octaves.scale=0.5: must be above 1"),
        (["output.dir=s3://b/run", "farm.address=auto"], "a job joins the cluster that it is sent to"),
        (["output.dir=s3://b/run", "farm.executor=inline"], "needs farm.executor=ray"),
        (["output.dir=s3://b/run", "conf=layers"], "is a sweep"),
    ],
)
def test_words_that_cannot_work_are_refused_before_the_cluster_is_asked(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(command.directory)
    with (command.directory / "large.tif").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    root = next((word.removeprefix("conf=") for word in words if word.startswith("conf=")), "preview")
    rest = [word for word in words if not word.startswith("conf=")]
    # Nothing listens there, and nobody asks.
    assert message in refusal(lambda: run("submit", root, "cluster=http://127.0.0.1:9", *rest))


# Kubernetes, by a kubectl that forwards to a real cluster

_FORWARDER = """
import base64, json, pathlib, select, socket, threading
if "current-context" in words: print("art")
elif "secret" in words: print(base64.b64encode(pathlib.Path(os.environ["TOKEN"]).read_bytes()).decode(), end="")
elif "port-forward" in words:
    here, there = int(words[-1].split(":")[0]), int(os.environ["DASHBOARD"])
    server = socket.create_server(("127.0.0.1", here))
    def pump(a, b):
        try:
            while data := a.recv(65536): b.sendall(data)
        except OSError: pass
        finally:
            for one in (a, b):
                try: one.shutdown(socket.SHUT_RDWR)
                except OSError: pass
    while True:
        near, _ = server.accept()
        far = socket.create_connection(("127.0.0.1", there))
        for pair in ((near, far), (far, near)): threading.Thread(target=pump, args=pair, daemon=True).start()
elif "pods" in words:
    status = {"phase": "Running", "containerStatuses": [{"ready": True, "restartCount": 0, "state": {"running": {}}}]}
    print(json.dumps({"items": [{"metadata": {"name": "small-head"}, "spec": {}, "status": status}]}))
elif "-f" in words: pathlib.Path(os.environ["APPLIED"]).write_text(sys.stdin.read())
"""


@pytest.mark.slow
def test_kubectl_reaches_the_dashboard_with_the_token_of_the_secret(command: Command, head: ray_head.Head) -> None:
    calls = command.stub("kubectl", _FORWARDER)
    file = ray_cluster(command.directory / "k.yaml")
    code, out, err = command(
        "status", f"cluster={file}", TOKEN=str(head.token), DASHBOARD=head.url.rpartition(":")[2], APPLIED="/dev/null"
    )
    assert code == 0, err
    assert re.search(r"^small-head +Running +1/1 ", out, re.MULTILINE)
    assert "1 node" in out
    recorded = [json.loads(line) for line in calls.read_text().splitlines()]
    (forward,) = (words for words in recorded if "port-forward" in words)
    assert forward[:2] == ["--namespace", "art"]
    assert "service/small-head-svc" in forward
    # The tunnel is taken down.
    port = forward[-1].partition(":")[0]
    assert "no Ray dashboard answers" in command.refused("cluster-status", f"cluster=http://127.0.0.1:{port}")


def test_a_tunnel_that_cannot_be_made_is_said(command: Command) -> None:
    script = "print('art') if 'current-context' in words else sys.exit('Error from server (NotFound): no such service')"
    command.stub("kubectl", script)
    line = command.refused("attach", f"cluster={ray_cluster(command.directory / 'k.yaml')}", "job=x")
    assert "cannot be reached (Error from server (NotFound): no such service)" in line


def test_a_kubernetes_cluster_is_applied_with_the_image_that_is_asked_for(command: Command) -> None:
    calls = command.stub("kubectl", _FORWARDER)
    file, applied = ray_cluster(command.directory / "k.yaml"), command.directory / "applied.yaml"
    code, _, err = command("cluster-up", f"cluster={file}", "container=mine:1", APPLIED=str(applied))
    assert code == 0, err
    document = yaml.safe_load(applied.read_text())
    assert document["spec"]["headGroupSpec"]["template"]["spec"]["containers"] == [{"image": "mine:1"}]
    assert command("cluster-down", f"cluster={file}", APPLIED="/dev/null")[0] == 0
    assert json.loads(calls.read_text().splitlines()[-1]) == ["delete", "--ignore-not-found", "-f", file]


def test_a_rayjob_is_made_with_the_words_of_the_job(command: Command) -> None:
    command.stub("kubectl", _FORWARDER)
    file, applied = ray_job(command.directory / "j.yaml"), command.directory / "applied.yaml"
    words = ("conf=noise", "image=noise", "output.dir=gs://bucket/a run", "name=two words")
    code, out, err = command("submit", f"cluster={file}", *words, "container=mine:1", APPLIED=str(applied))
    assert code == 0, err
    job = re.search(r"job (two-words-[0-9a-f]{6})", out)
    assert job is not None
    document = yaml.safe_load(applied.read_text())
    assert document["metadata"]["name"] == document["spec"]["jobId"] == job[1]
    assert document["spec"]["metadata"]["again"].endswith("'name=two words' container=mine:1")
    assert document["spec"]["entrypoint"] == (
        "python -m render render conf=noise farm.workers=4 image=noise 'output.dir=gs://bucket/a run' 'name=two words' "
        "farm.address=auto"
    )
    environment = yaml.safe_load(document["spec"]["runtimeEnvYAML"])["env_vars"]
    assert environment["RENDER_SENT_BY"] == __version__
    assert int(environment["RAY_JOB_STOP_WAIT_TIME_S"]) > 600
    (command.directory / "me.jpg").touch()
    assert "me.jpg cannot be brought" in command.refused("submit", f"cluster={file}", "image=me.jpg", "output.dir=gs://b/x")


def test_what_a_clusters_file_says_of_its_farm_gives_way_to_the_jobs_own_words(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, Any] = {}
    monkeypatch.setattr(cluster_jobs, "require_tools", lambda *_: None)
    monkeypatch.setattr(jobs, "refuse_other_ray", lambda *_: None)
    monkeypatch.setattr(jobs, "send", lambda _dashboard, _job, settings, *_: sent.update(settings))
    monkeypatch.setattr(cluster_jobs, "connected", lambda *_: nullcontext(None))
    annotation = {"pareidolia/submit": '["farm.workers=4", "farm.timeout=1800"]'}
    words = ["image=noise", "output.dir=s3://b/x", "farm.workers=2", "follow=false"]
    root = written(command.directory / "mine.yaml", {"defaults": [{"job": "default"}, "_self_"], "farm": {"workers": 3}})
    kubernetes = ray_cluster(command.directory / "k.yaml", **annotation)
    scaled = autoscaler(command.directory / "a.yaml", "aws", metadata={"submit": ["farm.workers=4", "farm.timeout=1800"]})
    for file in (kubernetes, scaled):
        sent.clear()
        assert run("submit", "preview", f"cluster={file}", *words) == 0
        assert (sent["farm"]["workers"], sent["farm"]["timeout"]) == (2, 1800)
        # So does what the job's own config says.
        assert run("submit", root, f"cluster={file}", *words[:2], words[-1]) == 0
        assert (sent["farm"]["workers"], sent["farm"]["timeout"]) == (3, 1800)


# Ray's autoscaler, on a machine that a stub of ssh stands for


@pytest.mark.slow
def test_ray_up_builds_the_wheel_and_copies_it_with_the_token(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real `ray up` and `ray down`, with Ray's provider of named machines; ssh and rsync are stubs."""
    calls = command.stub("ssh", "")
    copies = command.stub("rsync", "")
    wheel = f"dist/pareidolia-{__version__}-py3-none-any.whl"
    (ROOT / wheel).unlink(missing_ok=True)
    file = written(
        command.directory / "near.yaml",
        {
            "cluster_name": f"near-{os.getpid()}",
            "provider": {"type": "local", "head_ip": "192.0.2.1", "worker_ips": []},
            "auth": {"ssh_user": "dreamer", "ssh_private_key": str(command.directory / "key")},
            "file_mounts": {"~/wheel.whl": wheel, "~/.ray/auth_token": "~/.ray/auth_token"},
            "setup_commands": ["install ~/wheel.whl"],
            "head_start_ray_commands": ["ray start --head"],
            "worker_start_ray_commands": [],
        },
    )
    (command.directory / "key").touch()
    code, out, err = command("cluster-up", f"cluster={file}")
    assert code == 0, (out, err)
    assert (ROOT / wheel).exists()
    token = command.directory / "home" / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o077 == 0
    assert token.read_text() not in out + err + calls.read_text() + copies.read_text()
    assert "install ~/wheel.whl" in calls.read_text()
    assert wheel in copies.read_text()
    assert str(token) in copies.read_text()
    code, out, err = command("cluster-down", f"cluster={file}")
    assert code == 0, (out, err)


def test_a_file_that_nodes_need_and_is_not_here_is_said(command: Command) -> None:
    command.stub("ssh", "")
    command.stub("rsync", "")
    provider = {"type": "local", "head_ip": "192.0.2.1", "worker_ips": []}
    file = written(
        command.directory / "near.yaml", {"cluster_name": "n", "provider": provider, "file_mounts": {"~/x": "none/x"}}
    )
    assert "file_mounts has ~/x: none/x, which is not here" in command.refused("cluster-up", f"cluster={file}")


# Slurm, by stubs that run the script here

_SLURM = """
import pathlib, signal, subprocess
place = pathlib.Path(os.environ["PLACE"]); name = os.path.basename(sys.argv[0])
if name == "sbatch":
    script = next(i for i, word in enumerate(words) if not word.startswith("-"))
    with (place / "log").open("w") as log:
        text = pathlib.Path(words[script]).read_text()
        process = subprocess.Popen(["bash", "-c", text, *words[script:]], stdout=log, stderr=log, start_new_session=True)
    (place / "pid").write_text(str(process.pid)); print("17;cluster")
elif name == "scontrol":
    if words[-1] != "17": sys.exit("slurm_load_jobs error: Invalid job id specified")
    pid = int((place / "pid").read_text())
    going = os.path.exists(f"/proc/{pid}") and " Z " not in open(f"/proc/{pid}/stat").read()
    code = (place / "code").read_text().strip() if (place / "code").exists() else "0"
    state = "RUNNING" if going else "COMPLETED" if code == "0" else "FAILED"
    print(f"JobId=17 JobName=x JobState={state} ExitCode={code}:0 StdIn=/dev/null StdOut={place / 'log'} Power=")
elif name == "scancel": os.kill(int((place / "pid").read_text()), signal.SIGTERM)
else: print("17|RUNNING|0:05|1|None|preview")
"""


def test_slurm_jobs_are_queued_followed_and_stopped(command: Command) -> None:
    batch = command.directory / "batch.sh"
    batch.write_text(
        "#!/bin/bash\n#SBATCH --nodes=2\ntrap 'echo saving; echo 130 > $PLACE/code; exit 130' TERM\n"
        'echo "words: $*"\n[ "$WAIT" = no ] && exit 0\nwhile true; do sleep 0.1; done\n'
    )
    calls = [command.stub(name, _SLURM) for name in ("sbatch", "squeue", "scancel", "scontrol")]
    environment = {"PLACE": str(command.directory), "WAIT": "no"}
    words = ("submit", f"cluster={batch}", "conf=noise", "image=noise", "output.dir=dreams/x")
    code, out, err = command(*words, **environment)
    assert code == 0, err
    assert "words: conf=noise image=noise output.dir=dreams/x" in out
    assert json.loads(calls[0].read_text())[:2] == ["--parsable", "--job-name=noise"]
    environment["WAIT"] = "yes"
    process = command.start(*words, **environment)
    for line in process.stdout:
        if line.startswith("words:"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert f"make attach cluster={batch} job=17" in err
    assert "17   preview  running" in command("cluster-status", f"cluster={batch}", **environment)[1]
    assert "has no job 18" in command.refused("attach", f"cluster={batch}", "job=18", **environment)
    code, out, err = command("stop", f"cluster={batch}", "job=17", **environment)
    assert "saving" in out
    assert json.loads(calls[2].read_text()) == ["--signal=TERM", "--batch", "17"]
    assert command("attach", f"cluster={batch}", "job=17", **environment)[0] == 130
    assert "has ended already" in command.refused("stop", f"cluster={batch}", "job=17", **environment)


# Jobs on a real cluster


def wait_until(happened: Callable[[], bool], patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def logged(run: Path) -> str:
    return (run / "render.log").read_text() if (run / "render.log").exists() else ""


@pytest.mark.slow
def test_a_job_outlives_who_sent_it_and_stops_at_a_checkpoint(
    command: Command, head: ray_head.Head, tmp_path: Path
) -> None:
    """Sent and detached from; attached to; stopped; the same command goes on from there. The picture is of this machine."""
    Image.new("RGB", (96, 120), (90, 120, 200)).save(tmp_path / "me.png")
    run = tmp_path / "run"
    sent = ("submit", f"cluster={head.url}", *SMALL, "image=me.png", "octaves.steps=400", f"output.dir={run}")
    process = command.start(*sent, **head.environment)
    wait_until(lambda: "saved octave 1, step 1 " in logged(run))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    job = re.search(r"job (preview-[0-9a-f]{6}) on", out)[1]
    assert f"detached, and the job goes on: make attach cluster={head.url} job={job} follows it" in err
    assert len(err.strip().splitlines()) == 1
    assert "job_manager" not in out

    watching = command.start("attach", f"cluster={head.url}", **head.environment)
    assert any("me.png -> 96 x 120 px" in line for line in watching.stdout)
    code, out, err = command("stop", f"cluster={head.url}", f"job={job}", **head.environment)
    assert code == 0, err
    stopped = re.search(r"interrupted; the same command goes on from octave 1, step (\d+)", out)
    assert stopped, out
    assert f"{job} stopped; to go on: make submit cluster={head.url}" in out
    assert "image=me.png" in out
    _, err = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert f"job {job} was stopped; to go on: make submit" in err
    assert json.loads((run / "run.json").read_text())["status"] != "finished"

    code, out, _ = command(*sent, "follow=false", **head.environment)
    assert code == 0
    assert "make attach" in out
    wait_until(lambda: f"from step {int(stopped[1]) + 1}" in logged(run))
    # The only one that runs need not be named.
    assert command("stop", f"cluster={head.url}", **head.environment)[0] == 0
    line = command.refused("stop", f"cluster={head.url}", f"job={job}", **head.environment)
    assert f"job {job} has ended already: stopped" in line


@pytest.mark.slow
def test_a_job_that_succeeds_is_told_of_to_its_end(command: Command, head: ray_head.Head, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, err = command("submit", f"cluster={head.url}", *SMALL, f"output.dir={run}", **head.environment)
    assert code == 0, (out, err)
    assert err == ""
    assert f"{run}/preview.png" in out.splitlines()
    assert (run / "preview.png").exists()
    code, out, _ = command("cluster-status", f"cluster={head.url}", **head.environment)
    assert code == 0
    assert "succeeded" in out


@pytest.mark.slow
def test_a_job_that_fails_hands_its_exit_code_on(command: Command, head: ray_head.Head, tmp_path: Path) -> None:
    words = ("submit", f"cluster={head.url}", *SMALL, "objective.terms=[nowhere]", f"output.dir={tmp_path / 'run'}")
    code, out, err = command(*words, **head.environment)
    assert code == 2
    assert "nowhere" in out
    assert re.fullmatch(r"render: job preview-\w+ failed with exit code 2: its last lines say why\n", err)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ssl=None:DeprecationWarning")
def test_a_job_of_another_version_is_refused_on_the_cluster_with_both(
    head: ray_head.Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "__version__", "99.1.2")
    settings, files = portable_settings(load_config("preview", [f"output.dir={tmp_path}/run"]), shared=True)
    dashboard = Dashboard("it", head.url, head.token.read_text()).greeted()
    jobs.send(dashboard, "other-version", settings, files, "")
    assert jobs.exit_code(jobs.follow(dashboard, "other-version")) == 2
    out = capsys.readouterr().out
    assert (
        f"version mismatch between driver and cluster: the job was sent by 99.1.2, and the cluster has {__version__}" in out
    )
    assert "Traceback" not in out


@pytest.mark.slow
def test_whom_the_cluster_does_not_know_it_does_not_let_in(command: Command, head: ray_head.Head, tmp_path: Path) -> None:
    assert "asks for a token, and this machine has none" in command.refused("attach", f"cluster={head.url}", "job=x")
    (tmp_path / "wrong").write_text("0" * 32)
    line = command.refused("cluster-status", f"cluster={head.url}", RAY_AUTH_TOKEN_PATH=str(tmp_path / "wrong"))
    assert "does not take the token that this machine has" in line
    assert not (tmp_path / "home" / ".ray").exists()


@pytest.mark.slow
def test_an_unknown_job_is_refused_with_those_there_are(command: Command, head: ray_head.Head) -> None:
    dashboard = Dashboard("it", head.url, head.token.read_text()).greeted()
    dashboard.client().submit_job(entrypoint="true", submission_id="known-1")
    for name in ("attach", "stop"):
        line = command.refused(name, f"cluster={head.url}", "job=unknown-2", **head.environment)
        assert "has no job 'unknown-2': there are " in line
        assert "known-1" in line
