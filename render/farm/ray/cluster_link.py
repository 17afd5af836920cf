"""Watch over a running cluster that this process has joined: its control store, and its raylet on this machine.

Ray itself would try to reach them for a minute, and then end this process in its own words, with a record that says it is
running. The connections are tried in a thread, since a machine that has vanished does not even refuse one.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import psutil
import ray

from render.errors import ClusterLost
from render.farm.ray.private_api import raylet_socket

log = logging.getLogger(__name__)

#: Time between checks, and timeout of a connection, s.
_CHECK_PERIOD_S, _CONNECT_S = 2.0, 5.0
#: How long the control store may not answer, s: where its state is kept elsewhere, another one may take its place. Ray ends
#: this process after 60 s, or after what this variable says, which KubeRay sets to 600 where the state is kept.
_MAX_STORE_S, _RAY_SETTING = 40, "RAY_gcs_rpc_server_reconnect_timeout_s"
#: Time to end this process in our own words before Ray does, s.
_SPARE_S = 20


class ClusterLink:
    """Connection of this process to a cluster, checked in the background."""

    def __init__(self) -> None:
        """Begin to check the cluster that this process has joined."""
        self._loss = ""
        self._end = threading.Event()
        address = str(ray.get_runtime_context().gcs_address)
        host, _, port = address.rpartition(":")
        patience_s = store_patience_s(os.environ)
        self._store = Reachability(lambda: _connect(host.strip("[]"), int(port)), patience_s)
        self._store_loss = f"the control store at {address} has not answered for {patience_s} s"
        self._raylet = find_raylet(raylet_socket())
        threading.Thread(target=self._watch, name="cluster link", daemon=True).start()

    @property
    def is_lost(self) -> bool:
        """True once the cluster counts as lost."""
        return bool(self._loss)

    def check(self) -> None:
        """Raise `ClusterLost` once the cluster counts as lost. Cheap."""
        if self._loss:
            raise ClusterLost(f"the Ray cluster is lost: {self._loss}; see to the cluster, and run the command again")

    def close(self) -> None:
        """End the checks."""
        self._end.set()

    def _watch(self) -> None:
        while not self._loss and not self._end.wait(_CHECK_PERIOD_S):
            if self._raylet is not None and has_ended(self._raylet):
                self._loss = "the raylet on this machine has ended"
            elif self._store.is_lost():
                self._loss = self._store_loss
        if self._loss:
            log.warning("the cluster is lost: %s", self._loss)


def store_patience_s(environment: Mapping[str, str]) -> int:
    """Return how long the control store may not answer before the cluster counts as lost, s."""
    text = environment.get(_RAY_SETTING, "")
    return max(_MAX_STORE_S, int(text) - _SPARE_S) if re.fullmatch(r"[0-9]{1,9}", text) else _MAX_STORE_S


class Reachability:
    """Repeated attempts to connect, of which all must fail for some time before what is reached counts as lost."""

    def __init__(self, connect: Callable[[], None], seconds: float) -> None:
        """Store how to connect, which raises `OSError`, and how long all attempts must fail, s."""
        self._connect = connect
        self._seconds = seconds
        self._failing_since: float | None = None

    def is_lost(self) -> bool:
        """Try once more; return True if all attempts of the last seconds have failed."""
        begun = time.monotonic()
        try:
            self._connect()
        except OSError:
            if self._failing_since is None:
                self._failing_since = begun
            return time.monotonic() - self._failing_since >= self._seconds
        self._failing_since = None
        return False


def find_raylet(path: str) -> psutil.Process | None:
    """Return the raylet on this machine whose socket has this path; None if it is not to be seen from here."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if path and process.name() == "raylet" and f"--raylet_socket_name={path}" in process.cmdline():
                return process
    return None


def has_ended(process: psutil.Process) -> bool:
    """Return True if a process is no more, or a zombie."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _connect(host: str, port: int) -> None:
    """Connect to a port, and close the connection. Raise `OSError`."""
    socket.create_connection((host, port), timeout=_CONNECT_S).close()
