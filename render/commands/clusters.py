"""The commands `cluster-up`, `cluster-status`, `cluster-down`, `submit`, `attach` and `stop`, from words to deeds."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.table import Table
from rich.text import Text

from render.cluster import autoscaler, kubernetes, slurm
from render.cluster.access import local_token
from render.cluster.cluster_files import AUTOSCALER, KUBERNETES, KUBERNETES_JOB, RUNNING, SLURM, Cluster, find_cluster
from render.cluster.dashboard import Dashboard
from render.cluster.packing import travelling
from render.cluster.tools import require_ray, require_tools
from render.config.compose import load_config
from render.config.options import check_switches, split_words
from render.config.schema import Config
from render.errors import UserError
from render.system import interrupts
from render.terminal.console import plain_console
from render.terminal.lines import print_lines
from render.terminal.text import escaped

COMMANDS = ("cluster-up", "cluster-status", "cluster-down", "submit", "attach", "stop")

_OPTIONS = {
    "cluster-up": {"container": ""},
    "cluster-status": {},
    "cluster-down": {},
    "submit": {"follow": "true", "shared": "false", "container": ""},
    "attach": {"job": ""},
    "stop": {"job": ""},
}
_SWITCHES = ("follow", "shared")


def run_cluster_command(command: str, root: str, words: Sequence[str]) -> int:
    """Runs one of `COMMANDS`; `root` is the root config of a job to submit. Returns the exit code; raises `UserError`."""
    options, rest = _options(command, words)
    require_ray()
    cluster = find_cluster(options["cluster"])
    interrupts.hold()
    match command:
        case "submit":
            return _submit(cluster, root, rest, options)
        case "cluster-up":
            return _up(cluster, options["container"])
        case "cluster-down":
            return _down(cluster)
    require_tools(cluster, command)
    match command:
        case "attach":
            return _attach(cluster, options["job"])
        case "stop":
            return _stop(cluster, options["job"])
    return _status(cluster)


def _options(command: str, words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The command's own options, and the words that are left for the job."""
    options, rest = split_words(words, {"cluster": "", **_OPTIONS[command]})
    if rest and command != "submit":
        raise UserError(f"{command} does not know {rest[0]!r}: it takes {', '.join(f'{key}=' for key in options)}")
    check_switches(options, [key for key in _SWITCHES if key in options])
    return options, rest


def _up(cluster: Cluster, container: str) -> int:
    if container and cluster.kind != KUBERNETES:
        raise UserError(f"cluster={cluster.word} starts no containers: container= is for Kubernetes")
    if cluster.kind == RUNNING:
        raise UserError(f"cluster={cluster.word} is whatever Ray runs there: start it with `ray start --head`")
    if cluster.kind in (SLURM, KUBERNETES_JOB):
        raise UserError(
            f"cluster={cluster.word} comes with each job and goes with it: make submit cluster={cluster.word} ..."
        )
    require_tools(cluster, "cluster-up")
    if cluster.kind == AUTOSCALER:
        autoscaler.up(cluster)
    else:
        kubernetes.up(cluster, container)
    _say(f"{cluster.word} is starting; make cluster-status cluster={cluster.word} says how it stands")
    return 0


def _down(cluster: Cluster) -> int:
    if cluster.kind == RUNNING:
        raise UserError(f"cluster={cluster.word} was not started from here: end it with `ray stop` on its nodes")
    if cluster.kind == SLURM:
        raise UserError(f"cluster={cluster.word} goes with its job: make stop cluster={cluster.word} job=ID")
    require_tools(cluster, "cluster-down")
    if cluster.kind == AUTOSCALER:
        autoscaler.down(cluster)
    else:
        kubernetes.down(cluster)
    return 0


def _status(cluster: Cluster) -> int:
    if cluster.kind == SLURM:
        print_lines(*slurm.queue(cluster).splitlines())
        return 0
    if cluster.kind in (KUBERNETES, KUBERNETES_JOB):
        print_lines(*kubernetes.pods(cluster).splitlines())
    if cluster.kind == KUBERNETES_JOB:
        print_lines(*kubernetes.job_list(cluster).splitlines())
        return 0
    with _reached(cluster) as dashboard:
        _print_status(dashboard)
    return 0


def _print_status(dashboard: Dashboard) -> None:
    from render.cluster import jobs

    nodes, told = dashboard.nodes(), jobs.listed(dashboard.client())
    console = plain_console()
    console.write_line(f"{dashboard.word}: Ray {dashboard.ray}, {len(nodes)} node{'s' * (len(nodes) != 1)}")
    table = Table("node", "", "CPUs", "GPUs", "TPUs", "memory")
    for node in nodes:
        room = node["resources_total"]
        amounts = [f"{room.get(name, 0):g}" for name in ("CPU", "GPU", "TPU")]
        table.add_row(node["node_ip"], "head" * node["is_head_node"], *amounts, f"{room.get('memory', 0) / 1e9:.0f} GB")
    console.print(table)
    if not told:
        console.write_line("no jobs")
        return
    table = Table("job", "how", "since", "run directory")
    for job in told:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime((job.start_time or 0) / 1e3))
        output = (job.metadata or {}).get("output", "")
        table.add_row(job.submission_id, job.status.lower(), since, Text(escaped(output), overflow="fold"))
    console.print(table)


def _submit(cluster: Cluster, root: str, words: list[str], options: dict[str, str]) -> int:
    again = shlex.join(["make", "submit", f"cluster={cluster.word}", f"conf={root}", *words])
    again += " shared=true" * (options["shared"] == "true")
    again += f" {shlex.quote('container=' + options['container'])}" * bool(options["container"])
    if cluster.kind == SLURM:
        return _submit_to_slurm(cluster, root, words, follow=options["follow"] == "true")
    given = kubernetes.submit_words(cluster) if cluster.kind in (KUBERNETES, KUBERNETES_JOB) else []
    given = autoscaler.submit_words(cluster) if cluster.kind == AUTOSCALER else given
    words = [*_unsaid(given, root, words), *words]
    config = load_config(root, words)
    settings, files = travelling(config, shared=options["shared"] == "true")
    # What is wrong with the words is said before anybody is asked for credentials.
    require_tools(cluster, "submit")
    from render.cluster import jobs

    job = jobs.job_id(config.name)
    if cluster.kind == KUBERNETES_JOB:
        brought = [*map(str, files.values()), *([root] if root.endswith((".yaml", ".yml")) else [])]
        if brought:
            raise UserError(
                f"{brought[0]} cannot be brought to cluster={cluster.word}, which comes with the job: put it into the "
                "bucket and name its URL, or take a cluster that is up"
            )
        words = [f"conf={root}", *words, "farm.address=auto"]
        kubernetes.send_job(cluster, job, words, jobs.environment(), again, options["container"])
        _say(f"job {job}: its pods are starting; make attach cluster={cluster.word} job={job} follows it")
        return 0
    if options["container"]:
        raise UserError(f"cluster={cluster.word} is up already: container= goes with make cluster-up")
    with _reached(cluster) as dashboard:
        jobs.refuse_other_ray(dashboard)
        jobs.send(dashboard, job, settings, files, again)
        _say(f"job {job} on {cluster.word}: {settings['output']['dir']}")
        if options["follow"] != "true":
            _say(_how_to_attach(cluster, job))
            return 0
        with _detaching(cluster, job):
            return jobs.exit_code(jobs.follow(dashboard, job))


def _unsaid(given: list[str], root: str, words: list[str]) -> list[str]:
    """Those of the cluster's words about which the job's own words and its root config say nothing."""
    if not given:
        return []
    mine = {word.lstrip("+~").partition("=")[0] for word in words}
    said, usual = load_config(root, words), Config()
    return [word for word in given if (key := word.partition("=")[0]) not in mine and _at(said, key) == _at(usual, key)]


def _at(config: Config, key: str) -> object:
    """A setting by its key; None where there is none: what is wrong with the word is said when it is composed."""
    value: object = config
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def _submit_to_slurm(cluster: Cluster, root: str, words: list[str], *, follow: bool) -> int:
    # All nodes see this directory: paths stay as they are.
    config = load_config(root, words)
    if config.farm.address is not None:
        raise UserError(f"farm.address={config.farm.address}: the script starts a farm of its own; drop it")
    if config.output.dir is None:
        raise UserError("a job on a cluster needs output.dir: a directory that all nodes see, or one in an object store")
    require_tools(cluster, "submit")
    job = slurm.send(cluster, config.name, [f"conf={root}", *words])
    _say(f"job {job} on {cluster.word}: {config.output.dir}")
    if not follow:
        _say(_how_to_attach(cluster, job))
        return 0
    with _detaching(cluster, job):
        return slurm.follow(cluster, job)


def _attach(cluster: Cluster, job: str) -> int:
    if cluster.kind == SLURM:
        with _detaching(cluster, job):
            return slurm.follow(cluster, job)
    from render.cluster import jobs

    with _reached(cluster, job) as dashboard:
        client = dashboard.client()
        job = job or jobs.only_running(client, cluster.word)
        jobs.details(client, cluster.word, job)
        with _detaching(cluster, job):
            return jobs.exit_code(jobs.follow(dashboard, job))


def _stop(cluster: Cluster, job: str) -> int:
    if cluster.kind == SLURM:
        slurm.stop(cluster, job)
        return 0
    from render.cluster import jobs

    with _reached(cluster, job) as dashboard:
        job = job or jobs.only_running(dashboard.client(), cluster.word)
        _say(f"stopping {job}: it finishes the tile in hand and saves its canvas")
        with _detaching(cluster, job):
            info = jobs.stop(dashboard, job)
        again = (info.metadata or {}).get("again", "")
        _say(f"{job} {info.status.lower()}" + (f"; to go on: {again}" if again and info.status == "STOPPED" else ""))
        return 0


@contextmanager
def _reached(cluster: Cluster, job: str = "") -> Iterator[Dashboard]:
    """The dashboard of a cluster that is up; of a RayJob's, that of `job`."""
    if cluster.kind == AUTOSCALER:
        with autoscaler.reached(cluster) as dashboard:
            yield dashboard
    elif cluster.kind in (KUBERNETES, KUBERNETES_JOB):
        with kubernetes.reached(cluster, job if cluster.kind == KUBERNETES_JOB else "") as dashboard:
            yield dashboard
    else:
        assert cluster.url is not None
        yield Dashboard(cluster.word, cluster.url, local_token()).greeted()


@contextmanager
def _detaching(cluster: Cluster, job: str) -> Iterator[None]:
    """Ctrl-C inside leaves the job alone."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"detached, and the job goes on: {_how_to_attach(cluster, job)}") from None


def _how_to_attach(cluster: Cluster, job: str) -> str:
    where = f"cluster={cluster.word} job={job}"
    return f"make attach {where} follows it, make stop {where} ends it at a checkpoint"


def _say(line: str) -> None:
    print_lines(line)
