"""Slurm clusters: a job is a batch script, which starts Ray on its nodes and renders."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from render.cluster.cluster_files import Cluster
from render.cluster.tools import last_line, output_of
from render.errors import UserError
from render.system import interrupts
from render.terminal.lines import print_lines
from render.terminal.text import escaped, without_colours

#: States in which a job has not ended; see squeue(1).
_RUNNING_STATES = (
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "SUSPENDED",
    "REQUEUED",
    "RESIZING",
    "SIGNALING",
    "STAGE_OUT",
    "STOPPED",
)
_POLL_S = 2.0
_MAX_SBATCH_S = 60.0


def send(cluster: Cluster, name: str, words: Sequence[str]) -> str:
    """Queue the cluster's script with the job's words; return the job's number."""
    # By default the Python of this environment, which all nodes see.
    os.environ.setdefault("RENDER_PYTHON", sys.executable)
    result = output_of(
        ["sbatch", "--parsable", f"--job-name={name}", cluster.path.absolute(), *words], timeout_s=_MAX_SBATCH_S
    )
    job = result.stdout.strip().partition(";")[0]
    if result.returncode or not job.isdigit():
        raise UserError(f"cluster={cluster.word}: sbatch does not take the job ({last_line(result.stderr)})")
    return job


def follow(cluster: Cluster, job: str, *, skip: int = 0) -> int:
    """Print a job's output, from byte `skip` on, until the job ends; return its exit code."""
    position = skip
    while True:
        state, code, log = _job_state(cluster, job)
        position = _print_from(log, position)
        if state not in _RUNNING_STATES:
            _print_from(log, position)
            if state != "COMPLETED":
                print_lines(f"render: job {job} ended: {state.lower()}", file=sys.stderr)
            return 0 if state == "COMPLETED" else interrupts.EXIT_CODE if state == "CANCELLED" else code or 1
        time.sleep(_POLL_S)


def stop(cluster: Cluster, job: str) -> int:
    """Send SIGTERM to the script, which passes it on, and print the output until the job ends."""
    state, _, log = _job_state(cluster, job)
    if state not in _RUNNING_STATES:
        raise UserError(f"job {job} has ended already: {state.lower()}")
    # Before the signal, so that no later output is skipped.
    log_size = log.stat().st_size if log.is_file() else 0
    result = output_of(["scancel", *([] if state == "PENDING" else ["--signal=TERM", "--batch"]), job])
    if result.returncode:
        raise UserError(f"cluster={cluster.word}: scancel does not stop job {job} ({last_line(result.stderr)})")
    return follow(cluster, job, skip=log_size)


def queue(cluster: Cluster) -> str:
    """Return Slurm's list of the user's jobs."""
    result = output_of(["squeue", "--me"])
    if result.returncode:
        raise UserError(f"cluster={cluster.word}: squeue gives no answer ({last_line(result.stderr)})")
    return result.stdout


def _job_state(cluster: Cluster, job: str) -> tuple[str, int, Path]:
    """Return a job's state, exit code and the path of its output.

    Raise `UserError` if Slurm does not know the number, which it forgets soon after the job's end.
    """
    if not job.isdigit():
        raise UserError(f"cluster={cluster.word}: job={job} is no number of a Slurm job: squeue --me lists yours")
    result = output_of(["scontrol", "show", "job", "--oneliner", job])
    if result.returncode or "JobState=" not in result.stdout:
        raise UserError(f"cluster={cluster.word} has no job {job} ({last_line(result.stderr)}): squeue --me lists yours")
    state = re.search(r"\bJobState=(\w+)", result.stdout)
    code = re.search(r"\bExitCode=(\d+):(\d+)", result.stdout)
    log = re.search(r"\bStdOut=(\S.*?)(?= \w+=|$)", result.stdout.strip())
    return (state[1] if state else ""), int(code[1]) if code else 0, Path(log[1] if log else "/dev/null")


def _print_from(log: Path, position: int) -> int:
    """Print a file from a position on, in bytes; return the position of its end."""
    if not log.is_file():
        return position
    with log.open("rb") as file:
        file.seek(position)
        text = file.read()
    sys.stdout.write(escaped(without_colours(text.decode(errors="replace")), keep="\n\t"))
    sys.stdout.flush()
    return position + len(text)
