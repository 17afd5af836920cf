"""Commands `cluster-up`, `cluster-status` and `cluster-down`: start, show and end a cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from render.cluster import autoscaler, kubernetes, slurm
from render.cluster.cluster_files import AUTOSCALER, KUBERNETES, KUBERNETES_JOB, RUNNING, SLURM, Cluster, find_cluster
from render.cluster.connection import connected
from render.cluster.tools import require_ray, require_tools
from render.config.options import split_words
from render.errors import UserError
from render.system import interrupts
from render.terminal.console import PatientConsole, plain_console
from render.terminal.lines import print_lines
from render.terminal.text import escaped

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails

    from render.cluster.dashboard import Dashboard


def cluster_up_command(words: Sequence[str]) -> int:
    """Start a cluster."""
    options = cluster_options("cluster-up", words, {"container": ""})
    cluster, container = open_cluster(options["cluster"]), options["container"]
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
    print_lines(f"{cluster.word} is starting; make cluster-status cluster={cluster.word} says how it stands")
    return 0


def cluster_down_command(words: Sequence[str]) -> int:
    """End a cluster that was started from here."""
    cluster = open_cluster(cluster_options("cluster-down", words)["cluster"])
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


def cluster_status_command(words: Sequence[str]) -> int:
    """Print the nodes and the jobs of a cluster."""
    cluster = open_cluster(cluster_options("cluster-status", words)["cluster"])
    require_tools(cluster, "cluster-status")
    if cluster.kind == SLURM:
        print_lines(*slurm.queue(cluster).splitlines())
        return 0
    if cluster.kind in (KUBERNETES, KUBERNETES_JOB):
        print_lines(*kubernetes.pods(cluster).splitlines())
    if cluster.kind == KUBERNETES_JOB:
        print_lines(*kubernetes.job_list(cluster).splitlines())
        return 0
    with connected(cluster) as dashboard:
        _print_status(dashboard)
    return 0


def cluster_options(command: str, words: Sequence[str], defaults: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the options of a cluster command: `cluster` and those in `defaults`."""
    options, unknown_words = split_words(words, {"cluster": "", **(defaults or {})})
    if unknown_words:
        raise UserError(f"{command} does not know {unknown_words[0]!r}: it takes {', '.join(f'{key}=' for key in options)}")
    return options


def open_cluster(word: str) -> Cluster:
    """Return the cluster that `cluster=WORD` names; from now on signals raise."""
    require_ray()
    cluster = find_cluster(word)
    interrupts.hold()
    return cluster


def _print_status(dashboard: Dashboard) -> None:
    from render.cluster import jobs  # It imports Ray.

    nodes, job_list = dashboard.nodes(), jobs.listed(dashboard.client())
    console = plain_console()
    console.write_line(f"{dashboard.word}: Ray {dashboard.ray}, {len(nodes)} node{'s' * (len(nodes) != 1)}")
    _print_nodes(nodes, console)
    _print_jobs(job_list, console)


def _print_nodes(nodes: Sequence[Mapping[str, Any]], console: PatientConsole) -> None:
    table = Table("node", "", "CPUs", "GPUs", "TPUs", "memory")
    for node in nodes:
        resources = node["resources_total"]
        amounts = [f"{resources.get(name, 0):g}" for name in ("CPU", "GPU", "TPU")]
        table.add_row(
            node["node_ip"], "head" * node["is_head_node"], *amounts, f"{resources.get('memory', 0) / 1e9:.0f} GB"
        )
    console.print(table)


def _print_jobs(job_list: Sequence[JobDetails], console: PatientConsole) -> None:
    if not job_list:
        console.write_line("no jobs")
        return
    table = Table("job", "how", "since", "run directory")
    for job in job_list:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime((job.start_time or 0) / 1e3))
        output = (job.metadata or {}).get("output", "")
        table.add_row(job.submission_id, job.status.lower(), since, Text(escaped(output), overflow="fold"))
    console.print(table)
