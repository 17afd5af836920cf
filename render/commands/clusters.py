"""Commands `cluster-up`, `cluster-status`, `cluster-down`, `submit`, `attach` and `stop`."""

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
    """Run one of `COMMANDS` and return its exit code; `root` is the root config of a job to submit. Raise `UserError`."""
    options, job_words = _options(command, words)
    require_ray()
    cluster = find_cluster(options["cluster"])
    interrupts.hold()
    match command:
        case "submit":
            return _submit(cluster, root, job_words, options)
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
    """Return the command's own options, and the remaining words, which are for the job."""
    options, job_words = split_words(words, {"cluster": "", **_OPTIONS[command]})
    if job_words and command != "submit":
        raise UserError(f"{command} does not know {job_words[0]!r}: it takes {', '.join(f'{key}=' for key in options)}")
    check_switches(options, [key for key in _SWITCHES if key in options])
    return options, job_words


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

    nodes, job_list = dashboard.nodes(), jobs.listed(dashboard.client())
    console = plain_console()
    console.write_line(f"{dashboard.word}: Ray {dashboard.ray}, {len(nodes)} node{'s' * (len(nodes) != 1)}")
    table = Table("node", "", "CPUs", "GPUs", "TPUs", "memory")
    for node in nodes:
        room = node["resources_total"]
        amounts = [f"{room.get(name, 0):g}" for name in ("CPU", "GPU", "TPU")]
        table.add_row(node["node_ip"], "head" * node["is_head_node"], *amounts, f"{room.get('memory', 0) / 1e9:.0f} GB")
    console.print(table)
    if not job_list:
        console.write_line("no jobs")
        return
    table = Table("job", "how", "since", "run directory")
    for job in job_list:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime((job.start_time or 0) / 1e3))
        output = (job.metadata or {}).get("output", "")
        table.add_row(job.submission_id, job.status.lower(), since, Text(escaped(output), overflow="fold"))
    console.print(table)


def _submit(cluster: Cluster, root: str, words: list[str], options: dict[str, str]) -> int:
    resubmit_command = shlex.join(["make", "submit", f"cluster={cluster.word}", f"conf={root}", *words])
    resubmit_command += " shared=true" * (options["shared"] == "true")
    resubmit_command += f" {shlex.quote('container=' + options['container'])}" * bool(options["container"])
    if cluster.kind == SLURM:
        return _submit_to_slurm(cluster, root, words, follow=options["follow"] == "true")
    cluster_words = kubernetes.submit_words(cluster) if cluster.kind in (KUBERNETES, KUBERNETES_JOB) else []
    cluster_words = autoscaler.submit_words(cluster) if cluster.kind == AUTOSCALER else cluster_words
    words = [*_unsaid(cluster_words, root, words), *words]
    config = load_config(root, words)
    settings, files = travelling(config, shared=options["shared"] == "true")
    # Report errors in the words before tools ask for credentials.
    require_tools(cluster, "submit")
    from render.cluster import jobs

    job = jobs.job_id(config.name)
    if cluster.kind == KUBERNETES_JOB:
        local_files = [*map(str, files.values()), *([root] if root.endswith((".yaml", ".yml")) else [])]
        if local_files:
            raise UserError(
                f"{local_files[0]} cannot be brought to cluster={cluster.word}, which comes with the job: put it into the "
                "bucket and name its URL, or take a cluster that is up"
            )
        words = [f"conf={root}", *words, "farm.address=auto"]
        kubernetes.send_job(cluster, job, words, jobs.environment(), resubmit_command, options["container"])
        _say(f"job {job}: its pods are starting; make attach cluster={cluster.word} job={job} follows it")
        return 0
    if options["container"]:
        raise UserError(f"cluster={cluster.word} is up already: container= goes with make cluster-up")
    with _reached(cluster) as dashboard:
        jobs.refuse_other_ray(dashboard)
        jobs.send(dashboard, job, settings, files, resubmit_command)
        _say(f"job {job} on {cluster.word}: {settings['output']['dir']}")
        if options["follow"] != "true":
            _say(_how_to_attach(cluster, job))
            return 0
        with _detaching(cluster, job):
            return jobs.exit_code(jobs.follow(dashboard, job))


def _unsaid(given: list[str], root: str, words: list[str]) -> list[str]:
    """Return the cluster's words whose keys are set neither by the job's own words nor by its root config."""
    if not given:
        return []
    job_keys = {word.lstrip("+~").partition("=")[0] for word in words}
    config, defaults = load_config(root, words), Config()
    return [
        word for word in given if (key := word.partition("=")[0]) not in job_keys and _at(config, key) == _at(defaults, key)
    ]


def _at(config: Config, key: str) -> object:
    """Return a setting by its dotted key; None if there is none, because composing the config reports wrong keys."""
    value: object = config
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def _submit_to_slurm(cluster: Cluster, root: str, words: list[str], *, follow: bool) -> int:
    # All Slurm nodes see this directory, so paths stay as they are.
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
        resubmit_command = (info.metadata or {}).get("again", "")
        _say(
            f"{job} {info.status.lower()}"
            + (f"; to go on: {resubmit_command}" if resubmit_command and info.status == "STOPPED" else "")
        )
        return 0


@contextmanager
def _reached(cluster: Cluster, job: str = "") -> Iterator[Dashboard]:
    """Open the dashboard of a running cluster; for a RayJob, that of `job`."""
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
    """Turn Ctrl-C inside into a message that the job goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"detached, and the job goes on: {_how_to_attach(cluster, job)}") from None


def _how_to_attach(cluster: Cluster, job: str) -> str:
    words = f"cluster={cluster.word} job={job}"
    return f"make attach {words} follows it, make stop {words} ends it at a checkpoint"


def _say(line: str) -> None:
    print_lines(line)
