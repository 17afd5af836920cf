"""A Slurm cluster on one machine: Debian's slurmctld, slurmd and munge, each node a host of `tests.support.hosts`.

The first host is the login node and runs slurmctld; the others run slurmd. All see one shared directory.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian_packages import SYSTEM_PATH, install
from tests.support.hosts import Host, NotPermitted, hosts, until

_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "munged")
_PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
_MUNGE = "/tmp/munge/socket"
#: Longest wait for anything that a job does, s. It is for machines that are busy with much else.
MAX_WAIT_S = 900.0
#: Seconds after which Slurm starts a job again that was queued again: its credential must have expired (default 120).
_CREDENTIAL_S = 5
_CONFIG = """\
ClusterName=dreams
SlurmctldHost={login}({address})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={munge},cred_expire={credential}
StateSaveLocation=/tmp/slurmctld
SlurmdSpoolDir=/tmp/slurmd
SlurmctldPidFile=/tmp/slurmctld.pid
SlurmdPidFile=/tmp/slurmd.pid
SlurmctldLogFile={shared}/slurmctld.log
SlurmdLogFile={shared}/slurmd-%n.log
SlurmctldDebug=debug
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
SchedulerTimeSlice=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
EnforcePartLimits=ALL
KillWait=30
MinJobAge=86400
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
NodeName=plain NodeAddr=192.0.2.1 CPUs=2 RealMemory=8000 State=DOWN
PartitionName=dreams Nodes=one,two Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=900 MaxTime=INFINITE
PartitionName=urgent Nodes=one,two PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE
PartitionName=closed Nodes=one,two PriorityTier=1 AllowAccounts=art
PartitionName=quiet Nodes=three PriorityTier=1
PartitionName=plain Nodes=plain
"""


@dataclass
class SlurmCluster:
    """A cluster that runs. Commands are run on `login`; `nodes` compute; `shared` is seen by all."""

    login: Host
    nodes: list[Host]
    shared: Path

    def run(self, *words: str, timeout: float = MAX_WAIT_S, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the login node, in the shared directory."""
        pairs = [f"{key}={value}" for key, value in environment.items()]
        script = 'cd "$1" && shift && exec env "$@"'
        return self.login.run("sh", "-c", script, "sh", str(self.shared), *pairs, *words, timeout=timeout)

    def render(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the program on the login node."""
        return self.run(sys.executable, "-m", "render", *words, **environment)

    @contextmanager
    def configured(self, line: str) -> Iterator[None]:
        """Have a further line in slurm.conf."""
        config = self.shared / "slurm.conf"
        text = config.read_text()
        try:
            config.write_text(f"{text}{line}\n")
            self._reconfigure()
            yield
        finally:
            config.write_text(text)
            self._reconfigure()

    def _reconfigure(self) -> None:
        done = self.run("scontrol", "reconfigure")
        assert done.returncode == 0, done.stderr

    def left(self, *nodes: str) -> list[str]:
        """Return what jobs have left in the temporary directories of these nodes; by default of those of `dreams`."""
        hosts_by_name = {node.name: node for node in self.nodes}
        command = ("sh", "-c", "ls -d /tmp/pareidolia* /tmp/ray* 2>/dev/null")
        return "".join(hosts_by_name[name].run(*command).stdout for name in nodes or ("one", "two")).split()

    def idle(self) -> set[str]:
        """Return the names of the nodes that run no job."""
        listed = self.run("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N", "--partition=dreams,quiet")
        return set(listed.stdout.split())

    def state(self, job: str) -> str:
        """Return a job's state."""
        shown = self.run("scontrol", "show", "job", "--oneliner", job)
        found = re.search(r"JobState=(\w+)", shown.stdout)
        return found[1] if found else shown.stderr

    def take_nodes(self) -> None:
        """Run a job that takes the nodes of `dreams` from others, to its end."""
        done = self.run("srun", "--partition=urgent", "--nodes=2", "true")
        assert done.returncode == 0, done.stderr

    def has_ended(self, job: str) -> bool:
        """Return whether a job has ended, and not to be queued again."""
        return self.state(job) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")

    def end(self, job: str) -> str:
        """Wait until a job has ended; return its state."""
        until(lambda: self.has_ended(job), f"the end of job {job}", MAX_WAIT_S)
        return self.state(job)

    def log(self, job: str) -> str:
        """Return what a job has printed so far."""
        path = self.shared / f"pareidolia-{job}.log"
        return path.read_text() if path.exists() else ""

    def await_log(self, job: str, text: str) -> None:
        """Wait until a job has printed a text."""
        until(lambda: text in self.log(job) or self.has_ended(job), f"{text!r} in the log of job {job}", MAX_WAIT_S)
        assert text in self.log(job), self.log(job)


@contextmanager
def slurm_cluster(
    directory: Path,
    environment: Mapping[str, str],
    image: tuple[Path, ...] = (),
) -> Iterator[SlurmCluster]:
    """Start a cluster of a login node and three nodes, each with two CPUs and, in Slurm's eyes, one GPU.

    Its partitions: `dreams` (the default, nodes one and two), whose nodes `urgent` takes away; `quiet`, node three, which
    nothing takes; `closed`, for the account `art` alone; and `plain`, a node without a GPU that is down.

    Args:
        directory: The directory that all see.
        environment: Environment of every command.
        image: Further directories that they see.

    Raises:
        NotInstalled: Slurm is not here and cannot be installed.
        NotPermitted: The system does not let us make hosts, or Slurm's daemons do not start on them.
    """
    install(_PACKAGES, _PROGRAMS)
    shared = directory / "shared"
    shared.mkdir()
    key = shared / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    config = shared / "slurm.conf"
    own = {**environment, "PATH": f"{environment.get('PATH', '')}:{SYSTEM_PATH}", "SLURM_CONF": str(config)}
    with hosts(["login", "one", "two", "three"], own, [directory, *image]) as (_, made):
        login, *nodes = made
        lines = [
            f"NodeName={node.name} NodeAddr={node.address} NodeHostname={node.name} CPUs=2 RealMemory=8000 Gres=gpu:1"
            for node in nodes
        ]
        config.write_text(
            _CONFIG.format(
                login=login.name, address=login.address, munge=_MUNGE, credential=_CREDENTIAL_S, shared=shared,
                nodes="\n".join(lines),
            )
        )  # fmt: skip
        # Slurm wants a device for each GPU; any will do.
        (shared / "gres.conf").write_text("NodeName=one,two,three Name=gpu File=/dev/zero\n")
        (shared / "cgroup.conf").write_text("")
        for host in made:
            _start_daemons(host, key, ["slurmctld"] if host is login else ["slurmd", "-N", host.name])
        cluster = SlurmCluster(login, nodes, shared)
        until(lambda: cluster.idle() == {node.name for node in nodes}, "idle nodes", MAX_WAIT_S)
        yield cluster


def _start_daemons(host: Host, key: Path, slurm: list[str]) -> None:
    """Start munged and one daemon of Slurm on a host."""
    script = f"""set -e
        mkdir -p /tmp/munge /tmp/slurmctld /tmp/slurmd
        chmod 755 /tmp/munge
        munged --force --key-file={key} --socket={_MUNGE} --pid-file=/tmp/munge/pid --log-file=/tmp/munge/log \\
          --seed-file=/tmp/munge/seed
        exec "$@" """
    # Files, not pipes, which the daemons would keep open.
    done = host.run(
        "sh", "-c", f"({script}) >/tmp/munge.out 2>&1 </dev/null || {{ cat /tmp/munge.out; exit 1; }}", "sh", *slurm
    )
    if done.returncode:
        raise NotPermitted(f"{slurm[0]} does not start on a host: {done.stdout.strip()}")
    time.sleep(0.1)
