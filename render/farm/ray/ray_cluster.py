"""The Ray that a farm's workers run on: a local one, or a running cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from render.config.schema import FarmConfig
from render.farm.notice import Warned
from render.farm.ray.cluster_link import ClusterLink
from render.farm.ray.demands import alive_nodes
from render.farm.ray.node import RayNode
from render.farm.ray.notice_watch import NoticeWatch
from render.farm.ray.startup import join, knock


class RayCluster:
    """Connection to Ray: its nodes, the notices that some of them are about to go, and its end."""

    def __init__(self, config: FarmConfig, store_bytes: int, check: Callable[[], None], say: Callable[[str], None]) -> None:
        """Start Ray on this machine, or join the cluster at `config.address`.

        Args:
            config: The farm's settings.
            store_bytes: Size of the object store of a local Ray, bytes.
            check: Called by `check`; may raise.
            say: Called with progress messages for users.

        Raises:
            UserError: Ray cannot be started, or there is no such cluster.
        """
        self.config = config
        self._check = check
        self._node: RayNode | None = None
        self._link: ClusterLink | None = None
        self._notice_watch: NoticeWatch | None = None
        if config.address not in (None, "auto"):
            knock(config.address)
        try:
            if config.address is None:
                self._node = RayNode.start(config, store_bytes, say)
            else:
                join(config.address)
                self._link = ClusterLink()
                # A local Ray has no notices.
                self._notice_watch = NoticeWatch() if config.notices else None
        except BaseException:
            self.close()
            raise

    @property
    def is_local(self) -> bool:
        """True if Ray runs on this machine for this farm alone."""
        return self.config.address is None

    @property
    def is_lost(self) -> bool:
        """True if Ray's own processes were seen to have ended: on this machine, or the cluster's control store."""
        return (self._node is not None and self._node.is_lost) or (self._link is not None and self._link.is_lost)

    @property
    def leaving_nodes(self) -> dict[str, Warned]:
        """The nodes that are about to go, by their IDs; none of them is used again."""
        return self._notice_watch.leaving_nodes if self._notice_watch is not None else {}

    def usable_nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that stay, as Ray describes them."""
        leaving = self.leaving_nodes
        return [node for node in alive_nodes() if node["NodeID"] not in leaving]

    def may_use_leaving_nodes(self) -> bool:
        """Return True if Ray may still start workers on a node that is about to go.

        Ray starts none on a node that it drains itself.
        """
        if self._notice_watch is None:
            return False
        undrained = self.leaving_nodes.keys() - self._notice_watch.draining_nodes
        return any(node["NodeID"] in undrained for node in alive_nodes())

    def watch_node(self, node: str) -> None:
        """Watch for notices about a node from now on."""
        if self._notice_watch is not None:
            self._notice_watch.add(node)

    def remember_processes(self) -> None:
        """Record the processes of a local Ray, to end them with it."""
        if self._node is not None:
            self._node.remember()

    def check(self) -> None:
        """Raise the errors of the caller's `check`, such as KeyboardInterrupt, `NodeLost` and `ClusterLost`."""
        self._check()
        self.check_node()

    def check_node(self) -> None:
        """Raise `NodeLost` once Ray's own processes on this machine have ended, or `ClusterLost`."""
        if self._node is not None:
            self._node.check()
        if self._link is not None:
            self._link.check()

    def close(self) -> None:
        """Leave the cluster, or stop Ray if it was started here."""
        if self._notice_watch is not None:
            self._notice_watch.close()
        if self._link is not None:
            self._link.close()
        if self._node is not None:
            self._node.close()
        else:
            ray.shutdown()
