"""Hosts on one machine, each with network, mounts, processes and a name of its own, joined by a bridge: their network.

Each has its own address, /tmp and /dev/shm; only the network leads from one to another. The program they all see as it lies
on this machine, as they would in a container's image.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

#: The first process of a host: it reaps what others leave, and ends when the test's process does.
_INIT = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); print('up', flush=True); signal.pause()"
#: Run as root of the host before anything else: its name, Python, the first process' program, and what the image holds.
_SETUP = """set -e
name=$1 python=$2 init=$3
shift 3
mount --make-rprivate /
mount --bind /tmp /mnt
for place in /tmp /dev/shm; do mount -t tmpfs none $place; done
# The program may lie in this machine's /tmp: then it is in the host's, too.
for part in "$@"; do
  case $part in /tmp/*) mkdir -p "$part"; mount --bind "/mnt/${part#/tmp/}" "$part";; esac
done
umount /mnt
mkdir /tmp/home
hostname "$name"
exec "$python" -c "$init"
"""
_UNSHARE = ("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
_START = 30.0
#: Second numbers of the addresses of networks.
_NETWORKS = range(77, 250)


class NotPermitted(Exception):
    """This machine, or this user, may not make hosts; says why."""


@dataclass
class Host:
    """A host that runs. `environment` is that of every command."""

    name: str
    address: str
    pid: int
    cable: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, words: Sequence[str]) -> list[str]:
        """The words of a command that runs on this host in the same directory."""
        return ["nsenter", "--target", str(self.pid), "--all", f"--wdns={Path.cwd()}", "--", *words]

    def run(self, *words: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            self.command(words), env=self._surroundings(), capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts a command; its output, both kinds, is a pipe."""
        return subprocess.Popen(
            self.command(words), env=self._surroundings(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def cut_off(self) -> None:
        """Takes the host's cable out: nothing comes or goes any more, and nobody is told."""
        _do("ip", "link", "set", self.cable, "down")

    def _surroundings(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": "/tmp/home",
            "LANG": "C.UTF-8",
            # Theirs alone, like everything in /tmp.
            "XDG_CACHE_HOME": "/tmp/home/.cache",
            **self.environment,
        }


@contextmanager
def hosts(
    names: Sequence[str], environment: Mapping[str, str], image: Sequence[Path] = ()
) -> Iterator[tuple[str, list[Host]]]:
    """Hosts of these names on a network 10.N.0.0/24 of their own: this machine's address there, and the hosts.

    N is the first of `_NETWORKS` that nobody has: neither another suite nor one that was killed and left its bridge.
    `image` are directories that they see as they are here, wherever they lie.
    Raises `NotPermitted` where the system does not let us.
    """
    for tool in ("ip", "nsenter", "unshare"):
        if shutil.which(tool) is None:
            raise NotPermitted(f"{tool} is not installed (Debian: iproute2, util-linux)")
    if os.geteuid() != 0:
        raise NotPermitted("only root can make network namespaces")
    network = _new_network()
    bridge, here = f"dream{network}", f"10.{network}.0.254"
    inits: list[subprocess.Popen[str]] = []
    made: list[Host] = []
    try:
        _do("ip", "address", "add", f"{here}/24", "dev", bridge)
        _do("ip", "link", "set", bridge, "up")
        for number, name in enumerate(names, 1):
            address, cable, inside = f"10.{network}.0.{number}", f"dream{network}-{number}", f"eth{network}-{number}"
            init = subprocess.Popen(
                [*_UNSHARE, "sh", "-c", _SETUP, "sh", name, sys.executable, _INIT, *map(str, image)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            inits.append(init)
            assert init.stdout is not None and init.stderr is not None
            if init.stdout.readline() != "up\n":
                raise NotPermitted(f"a host cannot be made here: {init.stderr.read().strip()}")
            (child,) = psutil.Process(init.pid).children()
            _do("ip", "link", "add", cable, "type", "veth", "peer", "name", inside, "netns", str(child.pid))
            _do("ip", "link", "set", cable, "master", bridge, "up")
            host = Host(name, address, child.pid, cable, environment)
            for words in (f"address add {address}/24 dev {inside}", f"link set {inside} up", "link set lo up"):
                done = host.run("ip", *words.split())
                if done.returncode:
                    raise NotPermitted(f"ip {words}: {done.stderr.strip()}")
            made.append(host)
        yield here, made
    finally:
        for init in inits:
            # A host's first process takes all others along.
            init.send_signal(signal.SIGKILL)
            init.communicate()
        for host in made:
            subprocess.run(["ip", "link", "del", host.cable], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)


def until(happens: Callable[[], bool], what: str, seconds: float = _START) -> None:
    """Returns once something has happened; fails where it does not in time."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)


def _new_network() -> int:
    """Add the bridge of the first network that has none, and return the network's number."""
    for network in _NETWORKS:
        done = subprocess.run(
            ["ip", "link", "add", f"dream{network}", "type", "bridge"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return network
        if "File exists" not in done.stderr:
            break
    raise NotPermitted(f"no bridge can be made: {done.stderr.strip()}")


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPermitted(f"{' '.join(words)}: {done.stderr.strip()}")
