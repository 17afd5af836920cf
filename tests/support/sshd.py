"""OpenSSH servers on simulated hosts, and a client's configuration that reaches them; installed by root where missing."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.debian_packages import install
from tests.support.hosts import Host, until

_SERVER = "/usr/sbin/sshd"


def ensure_installed() -> None:
    """Install OpenSSH's server and client if they are missing. Raise `NotInstalled`."""
    install(["openssh-server", "openssh-client"], ["sshd", "ssh", "ssh-keygen"])


@contextmanager
def serving(directory: Path, hosts: Sequence[Host], environment: Mapping[str, str]) -> Iterator[Path]:
    """Run a server on each host; yield a client's configuration that knows the hosts by name.

    Args:
        directory: Directory for keys and configurations, which the servers see.
        hosts: The hosts.
        environment: Variables of the sessions, beside those that the server sets itself.
    """
    for name in ("server", "client", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    shutil.copy(directory / "client.pub", directory / "authorized")
    settings = [
        f"HostKey {directory}/server", f"AuthorizedKeysFile {directory}/authorized", "PidFile none", "StrictModes no",
        "UsePAM no", "PermitRootLogin prohibit-password", "PasswordAuthentication no", "ListenAddress 0.0.0.0:22",
        "SetEnv " + " ".join(f"{name}={value}" for name, value in environment.items()),
    ]  # fmt: skip
    (directory / "sshd_config").write_text("\n".join(settings) + "\n")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    key = (directory / "server.pub").read_text()
    (directory / "known").write_text("".join(f"{host.address} {key}" for host in hosts))
    common = f"  User root\n  UserKnownHostsFile {directory}/known\n  IdentitiesOnly yes\n"
    (directory / "config").write_text(
        "".join(f"Host {h.name}\n  HostName {h.address}\n  IdentityFile {directory}/client\n{common}" for h in hosts)
        + f"Host uninvited\n  HostName {hosts[0].address}\n  IdentityFile {directory}/stranger\n{common}"
        + f"Host closed\n  HostName {hosts[0].address}\n  Port 23\n  IdentityFile {directory}/client\n{common}"
    )
    servers = [host.start(_SERVER, "-D", "-e", "-f", str(directory / "sshd_config")) for host in hosts]
    try:
        for host in hosts:
            until(lambda host=host: _listens(host), f"the server of {host.name}")
        yield directory / "config"
    finally:
        for server in servers:
            # The server is a child of the program that has entered the host; both hold the pipe of its output.
            for process in psutil.Process(server.pid).children(recursive=True):
                process.kill()
            server.communicate()


def _listens(host: Host) -> bool:
    with suppress(OSError), socket.create_connection((host.address, 22), timeout=1):
        return True
    return False
