"""Slurm jobs on a real Slurm of two nodes, which are namespaces. Most run stubs of Ray and of the render."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from render.cluster.cluster_files import find_cluster
from render.cluster.slurm_job import allocation, refuse_other_versions, words_of_task
from render.cluster.slurm_options import arguments, script_text, split_options
from render.commands.slurm_jobs import send_job
from render.system.paths import cache_directory
from tests.conftest import ROOT, refusal, rendered
from tests.support.debian_packages import NotInstalled
from tests.support.farm_job import stored
from tests.support.hosts import Host, NotPermitted, until
from tests.support.slurm_cluster import MAX_WAIT_S, SlurmCluster, slurm_cluster
from tests.support.stub_python import stub_python

SCRIPT = ROOT / "cluster" / "slurm.sh"
SMALL = ("sbatch.cpus-per-task=1", "sbatch.mem=2G")
#: Renders: one that ends, and one that goes on until it is interrupted, and then ends when it is called again.
ENDS = "echo rendering"
SAVES = """echo begun > "$RENDER_BEGINNING_NOTE"
    case $(grep -c ^render "$calls") in
      1) trap 'echo saved; exit 130' INT; echo rendering; sleep 3600 & wait ;;
      *) echo going on ;;
    esac"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    weights = cache_directory() / "weights"
    environment = {"PYTHONPATH": str(ROOT), "PATH": str(Path(sys.executable).parent), "RENDER_OVERRIDES": ""}
    directories = (ROOT, Path(sys.prefix), Path(sys.prefix).resolve(), weights)
    try:
        with slurm_cluster(tmp_path_factory.mktemp("slurm"), environment, directories) as started:
            for host in (started.login, *started.nodes):
                host.run("sh", "-c", f"mkdir -p $HOME/.cache/pareidolia; ln -s {weights} $HOME/.cache/pareidolia")
            yield started
    except (NotInstalled, NotPermitted) as reason:
        pytest.skip(f"needs a Slurm cluster of namespaces: {reason}")


class Job:
    """A job with a stub of the render: it is sent as a user would send it."""

    def __init__(self, cluster: SlurmCluster, directory: Path, render: str) -> None:
        self.cluster = cluster
        self.python, self.calls = stub_python(directory, render)

    def send(self, *words: str) -> str:
        """Send it without following; return its number."""
        sent = self.submit("follow=false", *words)
        assert sent.returncode == 0, sent.stderr
        self.number = re.search(r"job (\d+) on", sent.stdout)[1]
        return self.number

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Send it as make does, whose words are in the environment."""
        every = ["cluster=slurm", "conf=noise", "image=noise", "output.dir=run-%a", *SMALL, *words]
        escaped = " ".join(word.replace("\\", "\\\\").replace(" ", "\\ ") for word in every)
        return self.cluster.render("submit", RENDER_OVERRIDES=escaped, RENDER_PYTHON=str(self.python))

    def renders(self) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.startswith("render")]


@pytest.fixture
def directory(cluster: SlurmCluster, request: pytest.FixtureRequest) -> Path:
    path = cluster.shared / re.sub(r"\W+", "-", request.node.name)
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def limited_job(cluster: SlurmCluster) -> Job:
    """A job with a time limit of two minutes, which is told a minute before; it needs no other's node."""
    directory = cluster.shared / "limited"
    directory.mkdir()
    job = Job(cluster, directory, SAVES)
    job.send("sbatch.partition=quiet", "sbatch.nodes=1", "sbatch.time=2", "sbatch.signal=B:USR1@60")
    return job


@pytest.mark.slow
@pytest.mark.usefixtures("limited_job")  # Its time runs while other tests do.
def test_job_is_sent_with_its_words_run_and_followed(cluster: SlurmCluster, directory: Path) -> None:
    job = Job(cluster, directory, ENDS)
    sent = job.submit("output.title=two words")
    assert sent.returncode == 0, (sent.stdout, sent.stderr)
    assert "rendering" in sent.stdout
    (line,) = job.renders()
    assert re.fullmatch(
        r"render render farm\.address=[\d.]+:\d+ conf=noise image=noise output\.dir=run-%a output\.title=two words "
        r"RENDER_OVERRIDES=unset",
        line,
    )
    starts = [line for line in job.calls.read_text().splitlines() if " ray " in line]
    assert starts[0].startswith("one ray") and "--head" in starts[0]
    assert starts[1].startswith("two ray") and "--address=" in starts[1]
    assert all("mode=token token=64" in start for start in starts)
    assert cluster.left() == []


@pytest.mark.slow
@pytest.mark.parametrize("line", ["", "SlurmctldParameters=preempt_send_user_signal"], ids=["SIGTERM", "user signal"])
def test_job_whose_nodes_are_needed_saves_and_goes_on(cluster: SlurmCluster, directory: Path, line: str) -> None:
    job = Job(cluster, directory, SAVES)
    with cluster.configured(line):
        job.send("fresh=true")
        cluster.await_log(job.number, "rendering")
        cluster.take_nodes()
        went_on(job)
    assert ("ends the job's step" in cluster.log(job.number)) == ("user_signal" not in line)
    first, second = job.renders()
    assert " fresh=true " in first
    assert "fresh=true" not in second and " fresh=false " in second
    assert cluster.left() == []


def went_on(job: Job) -> None:
    """Wait for the job's end; it has been interrupted and queued again."""
    assert job.cluster.end(job.number) == "COMPLETED"
    log = job.cluster.log(job.number)
    assert re.search(rf"saving\n.*saved\n.*queueing job {job.number} again.*going on\n", log, re.DOTALL), log


@pytest.mark.slow
def test_stopped_job_saves_and_is_told_as_cancelled(cluster: SlurmCluster, directory: Path) -> None:
    job = Job(cluster, directory, SAVES)
    job.send()
    cluster.await_log(job.number, "rendering")
    stopped = cluster.render("stop", f"cluster={SCRIPT}", f"job={job.number}")
    assert stopped.returncode == 0, stopped.stderr
    assert "saved" in stopped.stdout
    assert f"job {job.number} ended: cancelled" in stopped.stderr
    assert cluster.state(job.number) == "CANCELLED"
    assert cluster.render("attach", f"cluster={SCRIPT}", f"job={job.number}").returncode == 130
    assert cluster.left() == []


@pytest.mark.slow
def test_array_of_two_sweeps_renders_both_and_ends(cluster: SlurmCluster, directory: Path) -> None:
    job = Job(cluster, directory, ENDS)
    done = job.submit(
        "conf=layers", "sbatch.array=3-4", "sbatch.nodes=1", "sweep.dir=layers-%a", "output.dir=null", "seed=%a"
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    lines = sorted(re.sub(r"farm.address=\S+ ", "", line) for line in job.renders())
    for line, task in zip(lines, "34", strict=True):
        assert line.startswith("render sweep conf=layers")
        assert f"sweep.dir=layers-{task} output.dir=null seed={task} " in line
    assert cluster.left() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["sbatch.partition=nowhere"], ["has no partition 'nowhere'", "closed, dreams, plain, quiet, urgent"]),
        (["sbatch.partition=closed", "sbatch.account=me"], ["does not let account 'me' use partition 'closed'"]),
        (
            ["sbatch.partition=plain", "sbatch.nodes=1"],
            ["no nodes for partition=plain nodes=1", "it has 1 with 2 CPUs, 8000 MB and no GPUs"],
        ),
        (["sbatch.gres=gpu:3"], ["no nodes for nodes=2", "gres=gpu:3", "sbatch.gpus-per-node= (0 for CPUs alone)"]),
        (["sbatch.node=3"], ["sbatch.node: sbatch has no option --node"]),
        (["sbatch.time=soon"], ["Invalid --time specification"]),
    ],
)
def test_job_that_slurm_does_not_take_is_refused_in_a_line(
    cluster: SlurmCluster, directory: Path, words: list[str], parts: list[str]
) -> None:
    sent = Job(cluster, directory, ENDS).submit(*words)
    assert sent.returncode == 2, (sent.stdout, sent.stderr)
    (line,) = sent.stderr.splitlines()
    for part in parts:
        assert part in line


@pytest.mark.slow
def test_login_node_without_internet_says_which_weights_to_bring(cluster: SlurmCluster) -> None:
    words = ("cluster=slurm", "conf=noise", "image=noise", "output.dir=run", "model=googlenet")
    sent = cluster.render("submit", *words, XDG_CACHE_HOME="/tmp/empty")
    assert sent.returncode == 2, (sent.stdout, sent.stderr)
    (line,) = sent.stderr.splitlines()
    assert "or run make weights model=googlenet on a machine with internet, and copy googlenet-" in line
    assert line.endswith("from its cache to /tmp/empty/pareidolia/weights, which nodes must see too")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patch", "line"),
    [
        ("sys.version_info = (3, 99, 1, 'final', 0)", "node two has Python 3.99.1, and the job was started with Python 3."),
        ("import render.system.version as v; v.__version__ = '9.9.9'", "node two has program 9.9.9, and the job was"),
        (None, "node two: /tmp/python is not there: the environment must be in a directory that all nodes see"),
    ],
    ids=["python", "program", "missing"],
)
def test_node_with_another_environment_is_named(
    cluster: SlurmCluster, directory: Path, patch: str | None, line: str
) -> None:
    job = Job(cluster, directory, ENDS)
    one, two, _ = cluster.nodes
    _place(one, job.python, "/tmp/python")
    if patch is not None:
        (directory / "sitecustomize.py").write_text(f"import sys\n{patch}\n")
        text = job.python.read_text().replace("PYTHONPATH=", f"PYTHONPATH={directory}:")
        other = directory / "other"
        other.write_text(text)
        _place(two, other, "/tmp/python")
    job.python = Path("/tmp/python")
    sent = job.submit()
    assert sent.returncode == 2, (sent.stdout, sent.stderr)
    assert f"render: {line}" in sent.stdout
    assert "Traceback" not in sent.stdout
    assert job.renders() == []
    assert cluster.left() == []
    for node in cluster.nodes:
        node.run("rm", "-f", "/tmp/python")


def _place(host: Host, program: Path, path: str) -> None:
    assert host.run("install", "-m", "755", str(program), path).returncode == 0


@pytest.mark.slow
def test_two_nodes_give_the_bytes_of_one_machine_after_a_preemption(cluster: SlurmCluster, directory: Path) -> None:
    """With the real Ray, which Slurm's SIGTERM must not end before the canvas is saved."""
    words = [
        "image=sample:chelsea", "output.width=96", "output.height=80", "octaves.count=1", "octaves.steps=60",
        "objective.terms=[mixed0]", "tiles.size=48", "farm.worker.threads=1", "checkpoint.every=0",
    ]  # fmt: skip
    run = directory / "run"
    submit = ("submit", f"cluster={SCRIPT}", "follow=false", *SMALL, *words, f"output.dir={run}", "fresh=true")
    sent = cluster.render(*submit, RENDER_PATIENCE=str(MAX_WAIT_S))
    assert sent.returncode == 0, sent.stderr
    job = re.search(r"job (\d+) on", sent.stdout)[1]
    until(lambda: (run / "canvas" / "manifest.json").exists() or cluster.has_ended(job), "a checkpoint", MAX_WAIT_S)
    cluster.take_nodes()
    assert cluster.end(job) == "COMPLETED", cluster.log(job)
    text = cluster.log(job)
    assert "Slurm ends the job's step" in text
    assert "the same command goes on from octave 1" in text
    assert f"queueing job {job} again" in text
    assert cluster.left() == []

    here = rendered(directory / "here", *words, "farm.executor=inline", "quiet=true")
    assert json.loads((run / "run.json").read_text())["resumed"]
    np.testing.assert_array_equal(stored(run), stored(here))
    records = [json.loads((place / "run.json").read_text()) for place in (run, here)]
    assert records[0]["octaves"][0]["mean_gradient"] == records[1]["octaves"][0]["mean_gradient"]


@pytest.mark.slow
def test_job_saves_before_its_time_is_up_and_goes_on(cluster: SlurmCluster, limited_job: Job) -> None:
    went_on(limited_job)
    assert cluster.left("three") == []


# Without Slurm


def test_options_of_sbatch_replace_those_of_the_script() -> None:
    options, words = split_options(["sbatch.nodes=8", "conf=poster", "sbatch.exclusive=true", "sbatch.gres=gpu:2"])
    assert words == ["conf=poster"]
    assert arguments(options) == ["--nodes=8", "--exclusive", "--gres=gpu:2"]
    text = script_text(SCRIPT.read_text(), options)
    assert "#SBATCH --nodes" not in text and "#SBATCH --gpus-per-node" not in text
    assert "#SBATCH --cpus-per-task=8\n" in text
    assert "#SBATCH --mem=" in text and "#SBATCH --mem" not in script_text(text, {"mem-per-cpu": "2G"})
    assert arguments({"gpus-per-node": "0"}) == []
    assert "gpus-per-node" not in script_text("#SBATCH --gpus-per-node=1\n", {"gpus-per-node": "0"})


@pytest.mark.parametrize("word", ["sbatch.=3", "sbatch.Nodes=3", "sbatch.nodes", "sbatch.wrap=ls", "sbatch.job-name=x"])
def test_option_that_cannot_be_is_refused(word: str) -> None:
    assert word in refusal(lambda: split_options([word]))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sbatch.array=1-2", "output.dir=run"], "sbatch.array=1-2: all tasks would render the same: %a"),
        (["image=me.jpg", "output.dir=run"], "image=me.jpg: there is no such file here"),
        (["output.dir=null"], "a job on a cluster needs output.dir"),
        (["output.dir=run", "farm.executor=ray", "farm.address=auto"], "the script starts a farm of its own"),
    ],
)
def test_job_that_cannot_work_is_refused_before_slurm_is_asked(words: list[str], line: str) -> None:
    assert line in refusal(lambda: send_job(find_cluster("slurm"), "noise", words))


def test_nodes_must_have_one_environment() -> None:
    expected = {"Python": "3.11.7", "program": "0.1.0", "Ray": "2.60.0"}
    refuse_other_versions({"one": expected, "two": dict(expected)}, expected)
    line = refusal(
        lambda: refuse_other_versions({"one": expected, "two": expected | {"Ray": "2.1", "program": "9"}}, expected)
    )
    assert "node two has program 9 and Ray 2.1, and the job was started with program 0.1.0 and Ray 2.60.0" in line


@pytest.mark.slow
def test_queue_is_listed_for_people_and_programs(cluster: SlurmCluster, directory: Path) -> None:
    job = Job(cluster, directory, ENDS)
    number = job.send("sbatch.begin=now+1hour", "sbatch.nodes=2")
    listed = cluster.render("cluster-status", RENDER_OVERRIDES="cluster=slurm json=true")
    assert listed.returncode == 0, listed.stderr
    (record,) = (job for job in json.loads(listed.stdout)["jobs"] if job["job"] == number)
    assert record == {
        "job": number, "name": "noise", "state": "pending", "elapsed_seconds": 0, "nodes": 2, "reason": "BeginTime",
    }  # fmt: skip
    shown = cluster.render("cluster-status", RENDER_OVERRIDES="cluster=slurm")
    assert re.search(rf"^{number} +noise +pending +0 s +2 +BeginTime$", shown.stdout, re.MULTILINE)
    assert cluster.run("scancel", number).returncode == 0
    assert cluster.end(number) == "CANCELLED"


def test_words_have_the_number_of_the_arrays_task() -> None:
    assert words_of_task(["output.dir=a-%a", "seed=%a"], "7") == ["output.dir=a-7", "seed=7"]
    assert words_of_task(["output.title=100%a"], None) == ["output.title=100%a"]


def test_program_of_a_job_refuses_to_run_elsewhere() -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "render.cluster.slurm_job", "conf=x"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "render: this is the program of a Slurm job: send one with make submit cluster=slurm\n"


def test_patience_that_is_no_number_is_refused() -> None:
    environment = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "one", "RENDER_PATIENCE": "soon"}
    assert "RENDER_PATIENCE=soon is no number of seconds" in refusal(lambda: allocation(environment))


def test_job_without_an_environment_says_what_to_do() -> None:
    environment = {"PATH": "/usr/bin:/bin", "RENDER_PYTHON": "/nowhere/python"}
    done = subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "/nowhere/python: not there; make setup" in done.stderr
