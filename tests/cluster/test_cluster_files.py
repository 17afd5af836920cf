"""The files that start clusters, checked against their readers' schemas without a cloud."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from botocore.session import get_session
from botocore.validate import ParamValidator
from ray._private.accelerators import tpu
from ray.autoscaler._private.util import prepare_config, validate_config

from render.config.compose import load_config
from render.system.version import __version__

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
CLOUDS = ("aws-gpu", "aws-gpu-spot", "gcp-gpu", "gcp-tpu")
#: Those of Kubernetes are in test_kubernetes_files.py.
KUBERNETES = ("k8s-gpu", "k8s-gpu-spot", "k8s-tpu", "k8s-gpu-job", "k8s-gpu-spot-job", "k8s-tpu-job")
FILES = sorted(path for path in CLUSTER.rglob("*") if path.is_file())
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
PINNED = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / ".constraints.txt").read_text(), re.M))
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def text_of(name: str) -> str:
    if name in KUBERNETES:
        return (CLUSTER / "kubernetes" / "overlays" / name / "kustomization.yaml").read_text()
    return (CLUSTER / (name if "." in name or name == "Containerfile" else f"{name}.yaml")).read_text()


def loaded(name: str) -> Any:
    return yaml.safe_load(text_of(name))


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
    """Amazon's description of RunInstances checks node_config, into which Ray's schema does not look."""
    shape = get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for kind in loaded(name)["available_node_types"].values():
        words = {**kind["node_config"], "MinCount": 1, "MaxCount": 1}
        if misspelt:
            words["MetadataOptions"] = {"HttpToken": "required"}
        report = ParamValidator().validate(words, shape)
        assert ("HttpToken" in report.generate_report()) == report.has_errors() == misspelt


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


# TPUs


def test_slices_of_tpus_are_of_one_host() -> None:
    node = loaded("gcp-tpu")["available_node_types"]["tpu"]
    kind = node["node_config"]["acceleratorType"]
    chips = tpu.get_total_chips_from_accelerator_type(kind)
    assert chips == tpu.get_num_tpu_visible_chips_per_host(kind) == node["resources"]["TPU"]


# All of them


@pytest.mark.parametrize("name", CLOUDS)
def test_words_for_submit_are_a_farm_that_the_cluster_can_have(name: str) -> None:
    farm = load_config("poster", loaded(name)["metadata"]["submit"]).farm
    assert farm.workers is not None and farm.timeout >= 900
    most = loaded(name)["max_workers"]
    has = next(node["resources"] for kind, node in loaded(name)["available_node_types"].items() if kind != "head")
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
    mentioned = set(re.findall(r"make ([\w-]+) (?:cluster|run)=", header))
    # On Slurm, and for a job with a cluster of its own, nothing is put up before.
    assert mentioned >= {"submit", "attach", "cluster-status"} and mentioned <= set(COMMANDS)
    assert {word for _, rest in commands for word in re.findall(r"cluster=(\S+)", rest)} == {name.removesuffix(".sh")}
    assert all(len(line) <= 124 for line in text_of(name).splitlines())


def test_decision_page_names_every_file() -> None:
    page = text_of("README.md")
    files = [path for path in CLUSTER.iterdir() if path.is_file()]
    files += [CLUSTER / "kubernetes" / "overlays" / name for name in KUBERNETES]
    missing = [path.name for path in files if f"({path.relative_to(CLUSTER)})" not in page]
    assert missing == ["README.md"]
    assert set(re.findall(r"cluster=((?:aws|gcp|k8s)[\w-]*)", page)) == {*CLOUDS, *KUBERNETES}
    assert all(f"make {command} " in page for command in COMMANDS)


def test_versions_are_those_that_were_tested() -> None:
    every = {path.relative_to(CLUSTER).as_posix(): path.read_text() for path in FILES if path.suffix != ".json"}
    for name, text in every.items():
        assert set(re.findall(r"pareidolia-(\d[\w.]*?)-py3", text)) <= {__version__}, name
        assert set(re.findall(r"pareidolia:(\d[\w.]*)-(?:cuda|tpu)", text)) <= {__version__}, name
        for package, version in re.findall(r"\b(ray|jax|numpy)==(\S+)", text):
            assert version == PINNED[package], name
    # One Python on all nodes: that of the constraints.
    assert "Python 3.11" in (ROOT / ".constraints.txt").read_text().splitlines()[0]
    assert "--python 3.11" in every["node.sh"] and "python:3.11-" in every["Containerfile"]
    assert "-c /opt/pareidolia/.constraints.txt" in every["Containerfile"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CLUSTER).as_posix())
def test_no_credentials(path: Path) -> None:
    # A digest is no secret, and a reference to a Secret has none.
    text = re.sub(r"@sha256:[0-9a-f]{64}\b|redisPassword: \{valueFrom: \{secretKeyRef: ", "", path.read_text())
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
    calls = (tmp_path / "asked").read_text().splitlines()
    assert calls[0] == "drain-node" and "--deadline-remaining-seconds=2" in calls
    assert "--reason=DRAIN_NODE_REASON_PREEMPTION" in calls


@pytest.mark.parametrize("name", CLOUDS)
def test_a_clouds_file_says_what_has_to_be_installed_for_it(name: str) -> None:
    assert f"make setup EXTRAS={loaded(name)['provider']['type']}." in text_of(name)


def test_roles_are_asked_for_with_policies_that_are_json(tmp_path: Path) -> None:
    """Uses a stub of `aws` that records its words, and has no role yet."""
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
