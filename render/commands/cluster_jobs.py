"""Commands `submit`, `attach` and `stop`: render on a cluster, follow the job, end it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from render.cluster import autoscaler, kubernetes, kubernetes_options, slurm
from render.cluster.cluster_files import AUTOSCALER, KUBERNETES, KUBERNETES_JOB, SLURM, Cluster
from render.cluster.connection import connected
from render.cluster.kubernetes_options import KubernetesOptions
from render.cluster.packing import portable_settings
from render.cluster.tools import require_tools
from render.commands.clusters import cluster_options, open_cluster
from render.config.compose import load_config
from render.config.options import check_switches, split_words
from render.config.schema import Config
from render.errors import UserError
from render.terminal.lines import print_lines

# `render.cluster.jobs` imports Ray. The functions import it, so that a wrong word is refused before.


def submit_command(root: str, words: Sequence[str]) -> int:
    """Send a job to a cluster, and print its output until it ends, unless `follow=false`.

    Return the job's exit code, or 0 if it is not followed.
    """
    known_words = {"cluster": "", "follow": "true", "shared": "false", **kubernetes_options.WORDS}
    options, job_words = split_words(words, known_words)
    check_switches(options, ("follow", "shared"))
    pod_options = KubernetesOptions.of(options)
    cluster = open_cluster(options["cluster"], pod_options.parts)
    if pod_options.words and cluster.kind != KUBERNETES_JOB:
        key = pod_options.words[0].partition("=")[0]
        hint = "deadline= is for the jobs of k8s-...-job" if key == "deadline" else f"{key}= goes with make cluster-up"
        raise UserError(f"cluster={cluster.word} is up already: {hint}")
    if cluster.kind == SLURM:
        return _submit_to_slurm(cluster, root, job_words, follow=options["follow"] == "true")
    resubmit_command = _resubmit_command(cluster, root, job_words, pod_options, shared=options["shared"] == "true")
    job_words = [*_cluster_defaults(cluster, root, job_words), *job_words]
    config = load_config(root, job_words)
    settings, files = portable_settings(config, shared=options["shared"] == "true")
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
        job_words = [f"conf={root}", *job_words, "farm.address=auto"]
        kubernetes.send_job(cluster, job, job_words, jobs.environment(), resubmit_command, pod_options)
        print_lines(f"job {job}: its pods are starting; make attach cluster={cluster.word} job={job} follows it")
        return 0
    with connected(cluster) as dashboard:
        jobs.refuse_other_ray(dashboard)
        jobs.send(dashboard, job, settings, files, resubmit_command, kubernetes.driver_cpus(cluster))
        print_lines(f"job {job} on {cluster.word}: {settings['output']['dir']}")
        if options["follow"] != "true":
            print_lines(_attach_hint(cluster, job))
            return 0
        with _detaching(cluster, job):
            return jobs.exit_code(jobs.follow(dashboard, job))


def attach_command(words: Sequence[str]) -> int:
    """Print the output of a job until it ends; return its exit code."""
    cluster, job = _open_job("attach", words)
    if cluster.kind == SLURM:
        with _detaching(cluster, job):
            return slurm.follow(cluster, job)
    from render.cluster import jobs

    with connected(cluster, job) as dashboard:
        client = dashboard.client()
        job = job or jobs.only_running(client, cluster.word)
        jobs.details(client, cluster.word, job)
        with _detaching(cluster, job):
            return jobs.exit_code(jobs.follow(dashboard, job))


def stop_command(words: Sequence[str]) -> int:
    """Have a job save its canvas and end; print its output until it has."""
    cluster, job = _open_job("stop", words)
    if cluster.kind == SLURM:
        with _detaching(cluster, job):
            slurm.stop(cluster, job)
        return 0
    from render.cluster import jobs

    with connected(cluster, job) as dashboard:
        job = job or jobs.only_running(dashboard.client(), cluster.word)
        print_lines(f"stopping {job}: it finishes the tile in hand and saves its canvas")
        with _detaching(cluster, job):
            info = jobs.stop(dashboard, job)
        resubmit_command = (info.metadata or {}).get("again", "")
        print_lines(
            f"{job} {info.status.lower()}"
            + (f"; to go on: {resubmit_command}" if resubmit_command and info.status == "STOPPED" else "")
        )
        return 0


def _open_job(command: str, words: Sequence[str]) -> tuple[Cluster, str]:
    """Return the cluster and the job that the words name; the job is empty if none is named."""
    options = cluster_options(command, words, {"job": ""})
    cluster = open_cluster(options["cluster"])
    require_tools(cluster, command)
    return cluster, options["job"]


def _resubmit_command(
    cluster: Cluster, root: str, job_words: Sequence[str], options: KubernetesOptions, *, shared: bool
) -> str:
    """Return the command that sends the same job once more."""
    words = ["make", "submit", f"cluster={cluster.word}", f"conf={root}", *job_words]
    return shlex.join([*words, *(["shared=true"] if shared else []), *options.words])


def _cluster_defaults(cluster: Cluster, root: str, job_words: Sequence[str]) -> list[str]:
    """Return the words in the cluster's file whose keys the job does not set itself."""
    cluster_words: list[str] = []
    if cluster.kind in (KUBERNETES, KUBERNETES_JOB):
        cluster_words = kubernetes.submit_words(cluster)
    elif cluster.kind == AUTOSCALER:
        cluster_words = autoscaler.submit_words(cluster)
    if not cluster_words:
        return []
    job_keys = {word.lstrip("+~").partition("=")[0] for word in job_words}
    config, defaults = load_config(root, job_words), Config()
    return [
        word
        for word in cluster_words
        if (key := word.partition("=")[0]) not in job_keys and _setting(config, key) == _setting(defaults, key)
    ]


def _setting(config: Config, key: str) -> object:
    """Return a setting by its dotted key, or None: composing the config reports wrong keys."""
    value: object = config
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def _submit_to_slurm(cluster: Cluster, root: str, job_words: Sequence[str], *, follow: bool) -> int:
    from render.commands.slurm_jobs import send_job

    job, place = send_job(cluster, root, job_words)
    print_lines(f"job {job} on {cluster.word}: {place}")
    if not follow:
        print_lines(_attach_hint(cluster, job))
        return 0
    with _detaching(cluster, job):
        return slurm.follow(cluster, job)


@contextmanager
def _detaching(cluster: Cluster, job: str) -> Iterator[None]:
    """Turn Ctrl-C inside into a message that the job goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"detached, and the job goes on: {_attach_hint(cluster, job)}") from None


def _attach_hint(cluster: Cluster, job: str) -> str:
    words = f"cluster={cluster.word} job={job}"
    return f"make attach {words} follows it, make stop {words} ends it at a checkpoint"
