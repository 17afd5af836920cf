"""The files that start clusters: what their readers will take, before any cloud sees them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
import pytest
import yaml
from botocore.session import get_session
from botocore.validate import ParamValidator
from ray._private.accelerators import tpu
from ray.autoscaler._private.util import prepare_config, validate_config

from render.config.compose import load_config
from render.system.version import __version__
from tests.support.farm_job import stored
from tests.support.ray_head import free_ports

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SCHEMAS = ROOT.parent / "shared" / "schemas"
CLOUDS = ("aws-gpu", "aws-gpu-spot", "gcp-gpu", "gcp-tpu")
KUBERNETES = ("k8s-gpu", "k8s-tpu", "k8s-gpu-job", "k8s-tpu-job")
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
PINNED = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / ".constraints.txt").read_text(), re.M))
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def text_of(name: str) -> str:
    return (CLUSTER / (name if "." in name or name == "Containerfile" else f"{name}.yaml")).read_text()


def loaded(name: str) -> Any:
    return yaml.safe_load(text_of(name))


def ray_spec(name: str) -> Any:
    spec = loaded(name)["spec"]
    return spec.get("rayClusterSpec", spec)


# Ray's autoscaler


@pytest.mark.parametrize("name", CLOUDS)
def test_ray_takes_the_file(name: str) -> None:
    validate_config(prepare_config(loaded(name)))


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("where", [(), ("auth",), ("available_node_types", "head")])
def test_ray_refuses_a_misspelt_key(name: str, where: tuple[str, ...]) -> None:
    config = loaded(name)
    within = config
    for key in where:
        within = within[key]
    key = sorted(within)[0]
    within[key + "x"] = within[key]
    with pytest.raises(jsonschema.ValidationError, match=f"{key}x"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", ["aws-gpu", "aws-gpu-spot"])
@pytest.mark.parametrize("misspelt", [False, True])
def test_what_amazon_is_asked_for_is_in_its_api(name: str, misspelt: bool) -> None:
    """Ray's schema does not look into node_config; Amazon's own description of RunInstances does."""
    asked = get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for kind in loaded(name)["available_node_types"].values():
        words = {**kind["node_config"], "MinCount": 1, "MaxCount": 1}
        if misspelt:
            words["MetadataOptions"] = {"HttpToken": "required"}
        found = ParamValidator().validate(words, asked)
        assert ("HttpToken" in found.generate_report()) == found.has_errors() == misspelt


@pytest.mark.parametrize("name", CLOUDS)
def test_nothing_but_the_head_stays(name: str) -> None:
    config = prepare_config(loaded(name))
    assert config["provider"]["cache_stopped_nodes"] is False
    assert 0 < config["idle_timeout_minutes"] <= 15
    for kind, node in config["available_node_types"].items():
        assert node["min_workers"] == 0
        assert node["max_workers"] == (0 if kind == "head" else config["max_workers"])
        disks = node["node_config"]
        for disk in disks.get("BlockDeviceMappings", []):
            assert disk["Ebs"]["DeleteOnTermination"]
        for disk in disks.get("disks", []):
            assert disk["autoDelete"]
            assert f"/{config['provider']['availability_zone']}/" in disk["initializeParams"]["diskType"]


def test_spot_differs_from_on_demand_in_nothing_else() -> None:
    spot, demand = loaded("aws-gpu-spot"), loaded("aws-gpu")
    assert spot["available_node_types"]["gpu"]["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot.pop("cluster_name") == demand.pop("cluster_name") + "-spot"
    assert spot == demand


@pytest.mark.parametrize("name", CLOUDS)
def test_files_that_nodes_get_are_there(name: str) -> None:
    mounts = loaded(name)["file_mounts"]
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    wheel = f"pareidolia-{__version__}-py3-none-any.whl"
    assert mounts.pop(f"~/pareidolia/{wheel}") == f"dist/{wheel}"
    assert all((ROOT / local).is_file() for local in mounts.values())
    assert f"~/pareidolia/{wheel}" in loaded(name)["setup_commands"][0]


# Kubernetes


def unknown_fields(schema: dict[str, Any], value: Any, path: str = "") -> list[str]:
    """Fields that a Kubernetes schema does not have: its server would drop them, or refuse them, unseen by jsonschema."""
    if isinstance(value, list):
        return [found for item in value for found in unknown_fields(schema.get("items", {}), item, f"{path}[]")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    known, free = schema["properties"], schema.get("x-kubernetes-preserve-unknown-fields", False)
    return [
        found
        for key, item in value.items()
        for found in (
            unknown_fields(known[key], item, f"{path}.{key}") if key in known else [] if free else [f"{path}.{key}"]
        )
    ]


def complaints(manifest: dict[str, Any]) -> list[str]:
    if not SCHEMAS.is_dir():
        pytest.skip(f"KubeRay's schemas are not at {SCHEMAS}")
    schema = json.loads((SCHEMAS / f"{manifest['kind'].lower()}s.v1.json").read_text())
    found = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest)]
    metadata = {"properties": {key: {} for key in ("name", "annotations", "labels", "namespace")}}
    schema["properties"]["metadata"] = metadata
    return found + unknown_fields(schema, manifest)


@pytest.mark.parametrize("name", KUBERNETES)
def test_kuberay_takes_the_manifest(name: str) -> None:
    assert complaints(loaded(name)) == []


def keys_within(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            # Maps of the user's own keys: nothing to misspell.
            if key not in ("requests", "limits", "nodeSelector", "annotations", "rayStartParams"):
                yield (*path, key)
                yield from keys_within(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from keys_within(item, (*path, position))


@pytest.mark.parametrize("name", KUBERNETES)
def test_every_misspelt_field_of_a_manifest_is_found(name: str) -> None:
    manifest = loaded(name)
    paths = [path for path in keys_within(manifest) if path not in (("kind",), ("metadata",))]
    assert len(paths) > 50
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


@pytest.mark.parametrize("name", KUBERNETES)
def test_pods_have_time_to_leave_and_room_to_work(name: str) -> None:
    spec = ray_spec(name)
    (group,) = spec["workerGroupSpecs"]
    pod = group["template"]["spec"]
    (container,) = pod["containers"]
    assert group["numOfHosts"] == 1
    script = container["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert Path(script).name == "leave.sh"
    assert f"COPY cluster/leave.sh {Path(script).parent}/" in text_of("Containerfile")
    waits = re.search(r"LEAVE_SECONDS:-(\d+)", text_of("leave.sh"))
    assert waits is not None and pod["terminationGracePeriodSeconds"] > int(waits[1]) + 30
    assert {"/dev/shm", "/scratch"} == {mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["image"] == spec["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    if name.endswith("job"):
        assert loaded(name)["spec"]["shutdownAfterJobFinishes"]
    else:
        assert spec["enableInTreeAutoscaling"] and group["minReplicas"] == group["replicas"] == 0
        assert spec["autoscalerOptions"]["idleTimeoutSeconds"] <= 900


# TPUs


def test_slices_of_tpus_are_of_one_host() -> None:
    node = loaded("gcp-tpu")["available_node_types"]["tpu"]
    kind = node["node_config"]["acceleratorType"]
    chips = tpu.get_total_chips_from_accelerator_type(kind)
    assert chips == tpu.get_num_tpu_visible_chips_per_host(kind) == node["resources"]["TPU"]
    for name in ("k8s-tpu", "k8s-tpu-job"):
        pod = ray_spec(name)["workerGroupSpecs"][0]["template"]["spec"]
        topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
        chips = tpu.get_num_chips_from_topology(topology)
        assert (
            chips
            == tpu.get_chips_per_host(topology, "v6e")
            == int(pod["containers"][0]["resources"]["limits"]["google.com/tpu"])
        )


# All of them


def words_for_submit(name: str) -> list[str]:
    """What a job's words get from the file of the cluster."""
    if name in CLOUDS:
        return loaded(name)["metadata"]["submit"]
    if name.endswith("job"):
        words = re.findall(r"'[^']*'|\S+", loaded(name)["spec"]["entrypoint"])
        assert words[:5] == ["python", "-m", "render", "render", "conf=poster"]
        return [word.strip("'") for word in words[5:]]
    return json.loads(loaded(name)["metadata"]["annotations"]["pareidolia/submit"])


@pytest.mark.parametrize("name", [*CLOUDS, *KUBERNETES])
def test_words_for_submit_are_a_farm_that_the_cluster_can_have(name: str) -> None:
    farm = load_config("poster", words_for_submit(name)).farm
    assert farm.workers is not None and farm.timeout >= 900
    if name in CLOUDS:
        most = loaded(name)["max_workers"]
        has = next(node["resources"] for kind, node in loaded(name)["available_node_types"].items() if kind != "head")
    else:
        (group,) = ray_spec(name)["workerGroupSpecs"]
        most = group["maxReplicas"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        has = {"GPU": int(limits.get("nvidia.com/gpu", 0)), "TPU": int(limits.get("google.com/tpu", 0))}
        assert farm.scratch == "/scratch"
    if "tpu" in name:
        assert farm.workers * farm.worker.resources["TPU"] <= most * has["TPU"]
    else:
        assert farm.worker.num_gpus == 1 and farm.workers <= most * has["GPU"]


COMMANDS = ("cluster-up", "submit", "attach", "cluster-status", "fetch", "cluster-down")


@pytest.mark.parametrize("name", [*CLOUDS, *KUBERNETES, "slurm.sh"])
def test_header_says_what_is_started_what_it_costs_and_three_commands(name: str) -> None:
    header = "".join(line for line in text_of(name).partition("\n\n")[0].splitlines(True) if line.startswith("#"))
    assert "# Starts: " in header and "# Costs:  " in header
    commands = re.findall(r"^#   make (\S+) (.*)$", header, re.M)
    assert len(commands) == 3
    said = set(re.findall(r"make ([\w-]+) (?:cluster|run)=", header))
    # On Slurm, and for a job with a cluster of its own, nothing is put up before.
    assert said >= {"submit", "attach", "cluster-status"} and said <= set(COMMANDS)
    assert {word for _, rest in commands for word in re.findall(r"cluster=(\S+)", rest)} == {name.removesuffix(".sh")}
    assert all(len(line) <= 124 for line in text_of(name).splitlines())


def test_decision_page_names_every_file() -> None:
    page = text_of("README.md")
    missing = [path.name for path in CLUSTER.iterdir() if path.suffix != ".json" and f"({path.name})" not in page]
    assert missing == ["README.md"]
    assert set(re.findall(r"cluster=((?:aws|gcp|k8s)[\w-]*)", page)) == {*CLOUDS, *KUBERNETES}
    assert all(f"make {command} " in page for command in COMMANDS)


def test_versions_are_those_that_were_tested() -> None:
    every = {path.name: path.read_text() for path in CLUSTER.iterdir() if path.suffix != ".json"}
    for name, text in every.items():
        assert set(re.findall(r"pareidolia-(\d[\w.]*?)-py3", text)) <= {__version__}, name
        assert set(re.findall(r"pareidolia:(\d[\w.]*)-(?:cuda|tpu)", text)) <= {__version__}, name
        for package, version in re.findall(r"\b(ray|jax|numpy)==(\S+)", text):
            assert version == PINNED[package], name
    for name in KUBERNETES:
        assert ray_spec(name)["rayVersion"] == PINNED["ray"]
        image = ray_spec(name)["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
        assert image == f"pareidolia:{__version__}-{'tpu' if 'tpu' in name else 'cuda'}"
    # One Python on all nodes: that of the constraints.
    assert "Python 3.11" in (ROOT / ".constraints.txt").read_text().splitlines()[0]
    assert "--python 3.11" in every["node.sh"] and "python:3.11-" in every["Containerfile"]
    assert "-c /opt/pareidolia/.constraints.txt" in every["Containerfile"]


@pytest.mark.parametrize("path", sorted(CLUSTER.iterdir()), ids=lambda path: path.name)
def test_no_credentials(path: Path) -> None:
    text = path.read_text()
    for secret in (
        r"AKIA[0-9A-Z]{12}", r"BEGIN [A-Z ]*PRIVATE KEY", r"aws_secret_access_key", r"gcp_credentials",
        r"RAY_AUTH_TOKEN=[^\s$]*[0-9a-f]{16}", r"\b[0-9a-f]{40,}\b", r"password\s*[:=]",
    ):  # fmt: skip
        assert not re.search(secret, text, re.I), secret


def test_token_is_asked_for_and_dashboards_are_on_loopback() -> None:
    for name in CLOUDS:
        config = loaded(name)
        (head,) = (line for line in config["head_start_ray_commands"] if "ray start" in line)
        (worker,) = (line for line in config["worker_start_ray_commands"] if "ray start" in line)
        assert "RAY_AUTH_MODE=token ray start --head" in head and "RAY_AUTH_MODE=token ray start --address" in worker
        assert "--dashboard-host=127.0.0.1" in head and "--num-cpus=0" in head
    for name in KUBERNETES:
        spec = ray_spec(name)
        assert spec["authOptions"] == {"mode": "token"}
        assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
        # KubeRay's operator asks for a job's state from another pod.
        host = "0.0.0.0" if name.endswith("job") else "127.0.0.1"
        assert spec["headGroupSpec"]["rayStartParams"]["dashboard-host"] == host
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    slurm = text_of("slurm.sh")
    assert "export RAY_AUTH_MODE=token" in slurm and "--dashboard-host=127.0.0.1" in slurm


# Scripts


def shellcheck(script: str) -> str:
    assert SHELLCHECK is not None
    return subprocess.run([SHELLCHECK, "-s", "bash", "-"], input=script, text=True, capture_output=True).stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_passes_shellcheck(path: Path) -> None:
    assert shellcheck(path.read_text()) == ""


@pytest.mark.parametrize("name", CLOUDS)
def test_commands_pass_shellcheck(name: str) -> None:
    config = loaded(name)
    commands = [command for key, value in config.items() if key.endswith("_commands") for command in value]
    assert len(commands) == 5
    for command in commands:
        assert shellcheck(command) == ""


@pytest.mark.parametrize("name", [name for name in KUBERNETES if name.endswith("job")])
def test_entry_points_pass_shellcheck(name: str) -> None:
    assert shellcheck(loaded(name)["spec"]["entrypoint"]) == ""


def stub(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
    (directory / name).chmod(0o755)


def test_a_node_that_leaves_says_so_and_never_stays_longer_than_it_may(tmp_path: Path) -> None:
    stub(tmp_path / "bin", "ray", f'printf "%s\\n" "$@" >> {tmp_path}/asked')
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "LEAVE_SECONDS": "2"}
    begun = time.monotonic()
    busy = subprocess.Popen(["bash", "-c", "exec -a ray::Worker sleep 30"])
    assert subprocess.run(["bash", CLUSTER / "leave.sh"], env=environment).returncode == 0
    busy.kill()
    busy.wait()
    # Bash counts whole seconds of the clock: the first may be short.
    assert 1 <= time.monotonic() - begun < 10
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "drain-node" and "--deadline-remaining-seconds=2" in asked
    assert "--reason=DRAIN_NODE_REASON_PREEMPTION" in asked


@pytest.mark.parametrize("name", CLOUDS)
def test_a_clouds_file_says_what_has_to_be_installed_for_it(name: str) -> None:
    assert f"make setup EXTRAS={loaded(name)['provider']['type']}." in text_of(name)


@pytest.mark.parametrize("name", KUBERNETES)
def test_a_file_names_the_command_that_takes_its_image(name: str) -> None:
    """A RayJob is never brought up: `cluster-up` refuses it."""
    command = "submit" if name.endswith("-job") else "cluster-up"
    assert f"or make {command} container=" in text_of(name)


def test_roles_are_asked_for_with_policies_that_are_json(tmp_path: Path) -> None:
    """Against an `aws` that writes down what it is asked, and has no role yet."""
    stub(
        tmp_path / "bin", "aws",
        f'printf "%s\\0" "$@" >> {tmp_path}/asked; printf "\\n" >> {tmp_path}/asked\n'
        'case "$1 $2" in "sts get-caller-identity") echo 123456789012 ;; *" get-"*) exit 254 ;; esac',
    )  # fmt: skip
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    script = ["bash", str(CLUSTER / "aws-once.sh")]
    assert subprocess.run([*script, "dreams"], env=environment, capture_output=True).returncode == 0
    policies = [json.loads(word) for word in re.findall(r"\{.*?\}(?=\0)", (tmp_path / "asked").read_text(), re.S)]
    assert len(policies) == 4
    trust, node, _, head = policies
    assert trust["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert {entry["Resource"] for entry in node["Statement"]} == {"arn:aws:s3:::dreams", "arn:aws:s3:::dreams/*"}
    passed = [entry["Resource"] for entry in head["Statement"] if entry["Action"] == "iam:PassRole"]
    assert passed == ["arn:aws:iam::123456789012:role/pareidolia-node"]
    refused = subprocess.run([*script, "s3://dreams/x"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 2 and "without s3://" in refused.stderr


class Slurm:
    """slurm.sh on an allocation of two nodes, both of them this machine: `srun` and `scontrol` are stubs, Ray is real."""

    WORDS = (
        "image=sample:chelsea", "output.width=96", "output.height=80", "octaves.count=2", "octaves.steps=8",
        "objective.terms=[mixed0]", "tiles.size=48", "farm.worker.threads=1", "checkpoint.every=0",
    )  # fmt: skip

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked, self.log = directory / "asked", directory / "log"
        # Ray's sockets want short names.
        self.temporary = Path(tempfile.mkdtemp(prefix="sl-", dir="/tmp"))
        stub(directory / "bin", "srun", f'echo "srun $*" >> {self.asked}\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"')
        stub(
            directory / "bin", "scontrol",
            f'echo "scontrol $*" >> {self.asked}\n[ "$1" != show ] || tr , "\\n" <<< "$3"',
        )  # fmt: skip
        stub(directory / "bin", "sbatch", 'script=$1; shift; exec bash "$script" "$@"')

    def submit(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        (port,) = free_ports(1)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                ["sbatch", str(CLUSTER / "slurm.sh"), *words],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
                    "PATH": f"{self.directory}/bin:{os.environ['PATH']}",
                    "PYTHONPATH": str(ROOT),
                    "SLURM_JOB_ID": "4242",
                    "SLURM_JOB_NODELIST": "one,two",
                    "SLURM_CPUS_PER_TASK": "1",
                    "RENDER_PYTHON": sys.executable,
                    "RENDER_TEMPORARY": str(self.temporary / "r"),
                    "RENDER_PORT": str(port),
                    **environment,
                },
            )

    def close(self) -> None:
        """Ends whatever of this allocation's Ray is left, and nothing else."""
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.temporary) in word for word in process.info["cmdline"] or ()):
                process.kill()
        shutil.rmtree(self.temporary, ignore_errors=True)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    made = Slurm(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_slurm_job_saves_before_its_time_is_up_and_goes_on_when_queued_again(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit(*Slurm.WORDS, f"output.dir={tmp_path / 'run'}")
    until = time.monotonic() + 120
    while not (tmp_path / "run" / "canvas" / "manifest.json").exists():
        assert job.poll() is None and time.monotonic() < until, slurm.log.read_text()
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 0
    asked = slurm.asked.read_text().splitlines()
    assert asked[-1] == "scontrol requeue 4242"
    starts = [line for line in asked if "ray start" in line]
    assert len(starts) == 2 and "--nodelist=one" in starts[0] and "--head" in starts[0] and "--nodelist=two" in starts[1]
    assert "the same command goes on from octave" in slurm.log.read_text()
    assert not (tmp_path / "run" / "preview.png").exists()

    # As Slurm would: the same script with the same words.
    assert slurm.submit(*Slurm.WORDS, f"output.dir={tmp_path / 'run'}").wait(120) == 0, slurm.log.read_text()
    assert (tmp_path / "run" / "preview.png").exists()
    assert slurm.asked.read_text().count("requeue") == 1
    assert list(slurm.temporary.iterdir()) == []

    words = [*Slurm.WORDS, f"output.dir={tmp_path / 'local'}", "farm.executor=inline", "quiet=true"]
    subprocess.run([sys.executable, "-m", "render", "render", *words], cwd=ROOT, check=True)
    np.testing.assert_array_equal(stored(tmp_path / "run"), stored(tmp_path / "local"))


def quick(directory: Path, render: str) -> str:
    """A `python` whose nodes are there at once and whose render is `render`, beside a `ray` that only listens."""
    script = (
        f'case $1 in -c) exec {sys.executable} "$@" ;; -) cat >/dev/null; exit ;; esac\necho "$@" >> {directory}/rendered'
    )
    stub(directory / "quick", "python", f"{script}\n{render}")
    stub(
        directory / "quick", "ray",
        f'for word; do [[ $word != --port=* ]] || exec {sys.executable} -m http.server "${{word#*=}}"; done; exec sleep 60',
    )  # fmt: skip
    return str(directory / "quick" / "python")


@pytest.mark.parametrize(
    ("render", "number", "code", "queued"),
    [
        ("exit 0", None, 0, False),
        ("exit 2", None, 2, False),
        ("trap 'exit 130' TERM; sleep 60 & wait", signal.SIGUSR1, 0, True),
        ("trap 'exit 130' TERM; sleep 60 & wait", signal.SIGTERM, 130, False),
        ("trap 'exit 0' TERM; sleep 60 & wait", signal.SIGUSR1, 0, False),
        ("trap 'exit 2' TERM; sleep 60 & wait", signal.SIGUSR1, 2, False),
    ],
    ids=["done", "failed", "time is up", "ended", "done in time", "failed as time was up"],
)
def test_slurm_job_is_queued_again_only_where_its_render_was_interrupted_by_its_time(
    slurm: Slurm, tmp_path: Path, render: str, number: signal.Signals | None, code: int, queued: bool
) -> None:
    job = slurm.submit("conf=poster", "output.title=two words", RENDER_PYTHON=quick(tmp_path, render))
    if number is not None:
        until = time.monotonic() + 30
        while not (tmp_path / "rendered").exists():
            assert job.poll() is None and time.monotonic() < until, slurm.log.read_text()
            time.sleep(0.05)
        time.sleep(0.3)
        job.send_signal(number)
    assert job.wait(40) == code, slurm.log.read_text()
    assert ("scontrol requeue 4242" in slurm.asked.read_text()) == queued
    words = (tmp_path / "rendered").read_text().split(" ", 4)
    assert words[:3] == ["-m", "render", "render"] and words[4] == "conf=poster output.title=two words\n"
    assert re.fullmatch(r"farm\.address=[\d.]+:\d+", words[3])


def test_slurm_job_without_an_environment_says_what_to_do(slurm: Slurm) -> None:
    assert slurm.submit(RENDER_PYTHON="/nowhere/python").wait(20) == 2
    assert "/nowhere/python: not there; make setup" in slurm.log.read_text()
    assert not slurm.asked.exists()
