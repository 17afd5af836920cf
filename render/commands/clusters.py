"""Commands `cluster-up`, `cluster-status` and `cluster-down`: start, show and end a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from render.cluster import autoscaler, kubernetes, kubernetes_options, own, slurm
from render.cluster.cluster_files import (
    AUTOSCALER,
    KUBERNETES,
    KUBERNETES_JOB,
    OWN,
    RUNNING,
    SLURM,
    Cluster,
    find_cluster,
)
from render.cluster.connection import connected
from render.cluster.kubernetes_options import KubernetesOptions
from render.cluster.tools import require_ray, require_tools
from render.commands.cluster_tables import add_pods, add_queue, add_ray, add_ray_jobs, cluster_document
from render.config.options import split_words, take_json
from render.errors import UserError
from render.system import interrupts
from render.terminal.lines import print_lines

#: Words for machines of the user's own, with their default values.
_OWN_WORDS = {"nodes": "", "python": ""}

#: Commands that follow `cluster-up`, and what they do.
_NEXT = (("cluster-status", "says how it stands"), ("cluster-down", "ends it"))


def cluster_up_command(words: Sequence[str]) -> int:
    """Start a cluster."""
    words_by_key = cluster_options("cluster-up", words, {**_OWN_WORDS, **kubernetes_options.WORDS})
    options = KubernetesOptions.of(words_by_key)
    cluster = open_cluster(words_by_key["cluster"], options.parts)
    _refuse_own_words(cluster, words_by_key)
    if options.words and cluster.kind not in (KUBERNETES, KUBERNETES_JOB):
        key = options.words[0].partition("=")[0]
        raise UserError(f"cluster={cluster.word} starts no containers: {key}= is for Kubernetes")
    if cluster.kind == RUNNING:
        raise UserError(f"cluster={cluster.word} is whatever Ray runs there: start it with `ray start --head`")
    if cluster.kind in (SLURM, KUBERNETES_JOB):
        raise UserError(
            f"cluster={cluster.word} comes with each job and goes with it: make submit cluster={cluster.word} ..."
        )
    if options.deadline_s is not None:
        raise UserError(f"cluster={cluster.word} stays until make cluster-down: deadline= is for the jobs of k8s-...-job")
    require_tools(cluster, "cluster-up")
    with _telling_what_may_run(cluster):
        if cluster.kind == OWN:
            own.up(cluster, words_by_key["nodes"], words_by_key["python"])
            print_lines(*(f"make {what} cluster={cluster.word} {does}" for what, does in _NEXT))
            return 0
        if cluster.kind == AUTOSCALER:
            autoscaler.up(cluster)
        else:
            kubernetes.up(cluster, options)
    print_lines(f"{cluster.word} is starting; make cluster-status cluster={cluster.word} says how it stands")
    return 0


def cluster_down_command(words: Sequence[str]) -> int:
    """End a cluster that was started from here."""
    options = cluster_options("cluster-down", words, {**_OWN_WORDS, "parts": ""})
    cluster = open_cluster(options["cluster"], tuple(filter(None, options["parts"].split(","))))
    _refuse_own_words(cluster, options)
    if cluster.kind == RUNNING:
        raise UserError(f"cluster={cluster.word} was not started from here: end it with `ray stop` on its nodes")
    if cluster.kind == SLURM:
        raise UserError(f"cluster={cluster.word} goes with its job: make stop cluster={cluster.word} job=ID")
    require_tools(cluster, "cluster-down")
    if cluster.kind == OWN:
        own.down(cluster, options["nodes"], options["python"])
    elif cluster.kind == AUTOSCALER:
        autoscaler.down(cluster)
    else:
        kubernetes.down(cluster)
    return 0


def cluster_status_command(words: Sequence[str]) -> int:
    """Print the nodes and the jobs of a cluster."""
    as_json, other_words = take_json(words)
    cluster = open_cluster(cluster_options("cluster-status", other_words)["cluster"])
    require_tools(cluster, "cluster-status")
    document = cluster_document(cluster.word, cluster.kind)
    if cluster.kind == SLURM:
        add_queue(document, slurm.queue(cluster))
    if cluster.kind in (KUBERNETES, KUBERNETES_JOB):
        add_pods(document, kubernetes.pods(cluster))
    if cluster.kind == KUBERNETES_JOB:
        add_ray_jobs(document, kubernetes.job_list(cluster))
    if cluster.kind not in (SLURM, KUBERNETES_JOB):
        from render.cluster import jobs  # It imports Ray.

        try:
            with connected(cluster) as dashboard:
                add_ray(document, dashboard.word, dashboard.ray, dashboard.nodes(), jobs.listed(dashboard.client()))
        except UserError:
            # The pods say why nothing answers.
            if cluster.kind == KUBERNETES and not as_json:
                document.print(as_json=False)
            raise
    document.print(as_json=as_json)
    return 0


def cluster_options(command: str, words: Sequence[str], defaults: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the options of a cluster command: `cluster` and those in `defaults`."""
    options, unknown_words = split_words(words, {"cluster": "", **(defaults or {})})
    if unknown_words:
        raise UserError(f"{command} does not know {unknown_words[0]!r}: it takes {', '.join(f'{key}=' for key in options)}")
    return options


def _refuse_own_words(cluster: Cluster, options: Mapping[str, str]) -> None:
    """Raise `UserError` if words for machines of the user's own are given with another cluster."""
    given_words = [key for key in _OWN_WORDS if options[key]]
    if given_words and cluster.kind != OWN:
        raise UserError(f"cluster={cluster.word} names its machines itself: {given_words[0]}= is for cluster=own")


@contextmanager
def _telling_what_may_run(cluster: Cluster) -> Iterator[None]:
    """Turn Ctrl-C inside into a message that machines may be running, and how to end them."""
    try:
        yield
    except KeyboardInterrupt:
        costs = "" if cluster.kind == OWN else ", and costing money"
        raise KeyboardInterrupt(
            f"interrupted: its head may be running{costs}: make cluster-status cluster={cluster.word} shows "
            f"it, and make cluster-down cluster={cluster.word} ends it"
        ) from None


def open_cluster(word: str, parts: Sequence[str] = ()) -> Cluster:
    """Return the cluster that `cluster=WORD` names, with parts if it is one of Kubernetes; from now on signals raise."""
    cluster = find_cluster(word, parts)
    if cluster.kind != SLURM:
        require_ray()
    interrupts.hold()
    return cluster
