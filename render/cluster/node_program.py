"""Program that is sent to a machine to check it, and to start or end its part of a Ray cluster there.

It is not imported: `render.cluster.own_nodes` sends its text to an interpreter on the machine, behind a line that sets
`REQUEST`. It prints one line, `ANSWER_MARK` and a JSON object, which has the key `error` if something is wrong. So it needs
only the standard library to say which versions are there; starting and ending need the machine's Ray and psutil.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# What is to be done; the sender's line replaces it.
REQUEST: dict[str, Any] = globals().get("REQUEST", {})

ANSWER_MARK = "pareidolia-node:"
#: Environment variable of every process of a cluster, with the cluster's word and id.
MARK = "PAREIDOLIA_CLUSTER"
#: Longest start of Ray on a busy machine, and longest wait for its processes to end by themselves, s.
MAX_START_S, MAX_END_S = 120.0, 10.0
#: Where Ray's directories are. The name of each begins with that of its cluster.
_PLACE = Path("/tmp")
#: First choices of ports; the next free one is taken.
_PORT, _DASHBOARD_PORT, _CLIENT_PORT = 6379, 8265, 10001
_PORTS_TRIED = 40


class NodeError(Exception):
    """Reason why the request cannot be done, in few words."""


def versions() -> dict[str, str]:
    """Return the versions on this machine of what the nodes of a cluster must share."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": "{}.{}.{}".format(*sys.version_info)}
    for name in ("ray", "jax"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    try:
        from render.system.version import __version__

        found["render"] = __version__
    except Exception:
        # Another Python, or another program of that name.
        found["render"] = "none"
    return found


def check() -> dict[str, Any]:
    """Return versions, the address by which this machine was reached, and what Ray's dashboard lacks here."""
    from importlib.util import find_spec

    missing = [module for module in ("aiohttp", "colorful") if find_spec(module) is None]
    return {"versions": versions(), "address": own_address(), "missing": missing}


def own_address() -> str:
    """Return the IPv4 address by which ssh has reached this machine; empty if it is of no use for others.

    Ray cannot join an IPv6 address: it then takes an IPv4 address of the machine by itself.
    """
    words = os.environ.get("SSH_CONNECTION", "").split()
    address = words[2] if len(words) == 4 else ""
    return "" if address.startswith("127.") or ":" in address else address


def start() -> dict[str, Any]:
    """Start Ray: the head, or a node of the head at REQUEST's `head`. A second time if the first one fails."""
    if raylets() and not REQUEST["anew"]:
        return {"began": False}
    end_processes()
    words = [f"--node-ip-address={REQUEST['address']}"] if REQUEST["address"] else []
    directory, port, dashboard = REQUEST["directory"], 0, 0
    if REQUEST["head"]:
        make_directory(directory)
        words.append(f"--address={REQUEST['head']}")
    else:
        directory = tempfile.mkdtemp(prefix=prefix(), dir=_PLACE)
        port, dashboard, client = free_port(_PORT), free_port(_DASHBOARD_PORT), free_port(_CLIENT_PORT)
        words += ["--head", f"--port={port}", f"--temp-dir={directory}", f"--ray-client-server-port={client}"]
        words += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    any_port = ("dashboard-agent-listen", "dashboard-agent-grpc", "min-worker", "max-worker")
    words += ["--disable-usage-stats", *(f"--{name}-port=0" for name in any_port)]
    reason = ""
    for _ in range(2):
        reason = ray_start(words)
        if not reason:
            address = REQUEST["address"] or ray_address()
            return {"began": True, "directory": directory, "port": port, "dashboard": dashboard, "address": address}
        end_processes()
    remove_directories()
    raise NodeError(
        f"Ray does not start there, tried twice ({reason}): end what keeps the machine busy, and run this again"
    )


def ray_address() -> str:
    """Return the address that Ray gives this machine by itself."""
    from ray.util import get_node_ip_address

    address: str = get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def ray_start(words: list[str]) -> str:
    """Start Ray's processes, which stay; return why they did not start, or an empty string."""
    # The interpreter that runs this is the one that jobs find as `python`.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RENDER_"))}
    environment.update({MARK: mark(), "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": REQUEST["token"]})
    # Ray's default is 15, with which workers hardly run beside other work.
    environment["RAY_worker_niceness"] = "0"
    # A file, not a pipe: Ray's processes would keep a pipe open.
    with tempfile.TemporaryFile("w+") as output:
        try:
            code = subprocess.run(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *words],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, timeout=MAX_START_S, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"it took over {MAX_START_S:.0f} s"
        if code == 0:
            return ""
        output.seek(0)
        lines = [line.strip() for line in output.read().splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:300] if lines else f"exit code {code}"


def stop() -> dict[str, Any]:
    """End every process of the cluster on this machine, and remove Ray's directories."""
    count = end_processes()
    remove_directories()
    return {"ended": count}


def mark() -> str:
    """Return the mark of the cluster's processes."""
    return f"{REQUEST['name']}-{REQUEST['id']}"


def has_mark(value: str) -> bool:
    """Return whether a mark is this cluster's; without an id in the request, that of any with the same word."""
    return value == mark() if REQUEST["id"] else value.partition("-")[0] == REQUEST["name"]


def members() -> list[Any]:
    """Return the processes of this user on this machine that belong to the cluster."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            # Root could read the environment of others, too.
            if process.pid == os.getpid() or process.uids().real != os.getuid():
                continue
            if has_mark(process.environ().get(MARK, "")) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def raylets() -> list[Any]:
    """Return the processes of the cluster that each serve as a node."""
    try:
        return [process for process in members() if process.name() == "raylet"]
    except Exception:
        # Without psutil there is no program here, which the versions say.
        return []


def end_processes() -> int:
    """End the cluster's processes on this machine, and return how many there were."""
    import psutil

    # Processes that give themselves a name, as Ray's do, may lose their environment by that: they are known by a parent.
    family: set[Any] = set()
    deadline = time.monotonic() + MAX_END_S
    while True:
        for process in members():
            try:
                family |= {process, *process.children(recursive=True)}
            except psutil.Error:
                continue
        running = [process for process in family if is_running(process)]
        if not running:
            return len(family)
        for process in running:
            try:
                process.kill() if time.monotonic() > deadline else process.terminate()
            except psutil.Error:
                continue
        psutil.wait_procs(running, timeout=1.0)


def is_running(process: Any) -> bool:
    """Return whether a process has not ended."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def prefix() -> str:
    """Return how the names of the cluster's directories begin; without an id in the request, of any with the same word."""
    return f"pareidolia-ray-{mark()}-" if REQUEST["id"] else f"pareidolia-ray-{REQUEST['name']}-"


def make_directory(directory: str) -> None:
    """Make Ray's directory, for this user alone."""
    path = Path(directory)
    if path.parent != _PLACE or not re.fullmatch(re.escape(prefix()) + r"\w+", path.name):
        raise NodeError(f"{directory} is no directory of a cluster")
    path.mkdir(mode=0o700, exist_ok=True)
    if not is_own(path):
        raise NodeError(f"{directory} belongs to somebody else")


def remove_directories() -> None:
    """Remove the cluster's directories on this machine, as far as they are this user's."""
    for path in _PLACE.glob(f"{prefix()}*"):
        if is_own(path):
            shutil.rmtree(path, ignore_errors=True)


def is_own(path: Path) -> bool:
    """Return whether a path is a directory, no link, of this user."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def free_port(first: int) -> int:
    """Return the first port from `first` on at which nothing listens."""
    for port in range(first, first + _PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise NodeError(f"all ports from {first} to {first + _PORTS_TRIED - 1} are taken")


def main() -> None:
    """Do what REQUEST says, and print the answer."""
    try:
        answer = {"check": check, "start": start, "stop": stop}[REQUEST["action"]]()
    except NodeError as error:
        answer = {"error": str(error)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(ANSWER_MARK + json.dumps(answer))


if REQUEST:
    main()
