"""Connection to a cluster's dashboard, by the way that its kind needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from render.cluster import autoscaler, kubernetes, own
from render.cluster.access import local_token
from render.cluster.cluster_files import AUTOSCALER, KUBERNETES, KUBERNETES_JOB, OWN, Cluster
from render.cluster.dashboard import Dashboard


@contextmanager
def connected(cluster: Cluster, job: str = "") -> Iterator[Dashboard]:
    """Yield the dashboard of a cluster that is up; for a RayJob, that of `job`."""
    if cluster.kind == AUTOSCALER:
        with autoscaler.reached(cluster) as dashboard:
            yield dashboard
    elif cluster.kind == OWN:
        with own.reached(cluster) as dashboard:
            yield dashboard
    elif cluster.kind in (KUBERNETES, KUBERNETES_JOB):
        with kubernetes.reached(cluster, job if cluster.kind == KUBERNETES_JOB else "") as dashboard:
            yield dashboard
    else:
        assert cluster.url is not None
        yield Dashboard(cluster.word, cluster.url, local_token()).greeted()
