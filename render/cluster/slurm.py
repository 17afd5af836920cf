"""Slurm clusters: a job is a batch script, which starts Ray on its nodes and renders."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from render.cluster.cluster_files import Cluster
from render.cluster.slurm_options import arguments, refusal, script_text
from render.cluster.slurm_step import own_environment
from render.cluster.slurm_time import limit_s
from render.cluster.tool_calls import last_line, output_of
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
#: What squeue prints of a job: number, state, time used, nodes, reason for waiting, name; see squeue(1).
_QUEUE_FORMAT = "%i|%T|%M|%D|%r|%j"
_POLL_S = 2.0
_MAX_SBATCH_S = 60.0


def send(cluster: Cluster, name: str, words: Sequence[str], options: Mapping[str, str]) -> str:
    """Queue the cluster's script with the job's words; return the job's number.

    Args:
        cluster: The cluster.
        name: Name of the job.
        words: Words of the job's program.
        options: Options of sbatch, which replace those of the script.

    Raises:
        UserError: Slurm does not take the job.
    """
    # By default the Python of this environment, which all nodes see.
    environment = own_environment({"RENDER_PYTHON": os.environ.get("RENDER_PYTHON", sys.executable)})
    text = cluster.path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as directory:
        # Slurm keeps a copy of the script.
        script = Path(directory) / cluster.path.name
        script.write_text(script_text(text, options), encoding="utf-8")
        result = output_of(
            ["sbatch", "--parsable", f"--job-name={name}", *arguments(options), script, *words],
            timeout_s=_MAX_SBATCH_S,
            environment=environment,
        )
    job = result.stdout.strip().partition(";")[0]
    if result.returncode or not job.isdigit():
        raise UserError(refusal(cluster.word, text, options, result.stderr))
    return job


def follow(cluster: Cluster, job: str, *, skip: Mapping[Path, int] | None = None) -> int:
    """Print the output of a job, or of all tasks of a job array, until it ends; return its exit code.

    Args:
        cluster: The cluster.
        job: Number of the job.
        skip: For each file of output, from which byte on it is printed.
    """
    positions = dict(skip or {})
    waits: set[str] = set()
    while True:
        tasks = _tasks(cluster, job)
        for task in tasks:
            positions[task.log] = _print_from(task.log, positions.get(task.log, 0))
            if task.state != "PENDING":
                waits.discard(task.name)
            elif task.name not in waits:
                waits.add(task.name)
                reason = f" ({task.reason})" if task.reason != "None" else ""
                print_lines(f"job {task.name} waits in the queue{reason}")
        if not any(task.state in _RUNNING_STATES for task in tasks):
            return _end(tasks)
        time.sleep(_POLL_S)


def stop(cluster: Cluster, job: str) -> int:
    """Send SIGTERM to the script, which passes it on, and print the output until the job ends."""
    tasks = _tasks(cluster, job)
    running = [task for task in tasks if task.state in _RUNNING_STATES]
    if not running:
        raise UserError(f"job {job} has ended already: {tasks[0].state.lower()}")
    # Before the signal, so that no later output is skipped.
    log_sizes = {task.log: task.log.stat().st_size for task in tasks if task.log.is_file()}
    commands = []
    if any(task.state == "PENDING" for task in running):
        commands.append(["scancel", "--state=PENDING", job])
    if any(task.state != "PENDING" for task in running):
        commands.append(["scancel", "--signal=TERM", "--batch", job])
    for command in commands:
        result = output_of(command)
        if result.returncode:
            raise UserError(f"cluster={cluster.word}: scancel does not stop job {job} ({last_line(result.stderr)})")
    return follow(cluster, job, skip=log_sizes)


def queue(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the user's jobs in Slurm's queue: number, name, state, time and nodes used, and why one waits."""
    result = output_of(["squeue", "--me", "--noheader", f"--format={_QUEUE_FORMAT}"])
    if result.returncode:
        raise UserError(f"cluster={cluster.word}: squeue gives no answer ({last_line(result.stderr)})")
    # A name may hold a bar, and comes last.
    rows = [line.strip().split("|", 5) for line in result.stdout.splitlines()]
    return [
        {
            "job": job, "name": name, "state": state.lower(), "elapsed_seconds": _elapsed_s(elapsed),
            "nodes": int(nodes) if nodes.isdigit() else None, "reason": None if reason == "None" else reason,
        }
        for job, state, elapsed, nodes, reason, name in (row for row in rows if len(row) == 6)
    ]  # fmt: skip


def _elapsed_s(text: str) -> int | None:
    """Return the seconds that squeue says a job has run; None if it says none."""
    return limit_s(text) or (0 if re.fullmatch(r"[0:]+", text) else None)


class Task(NamedTuple):
    """A job, or one task of a job array.

    Attributes:
        name: Its number, for messages.
        state: Its state, as in squeue(1).
        reason: Why it waits.
        code: Its exit code.
        log: File of its output.
    """

    name: str
    state: str
    reason: str
    code: int
    log: Path


def _tasks(cluster: Cluster, job: str) -> list[Task]:
    """Return the tasks of a job; one if it is no array.

    Raise `UserError` if Slurm does not know the number, which it forgets soon after the job's end.
    """
    if not job.isdigit():
        raise UserError(f"cluster={cluster.word}: job={job} is no number of a Slurm job: squeue --me lists yours")
    result = output_of(["scontrol", "show", "job", "--oneliner", job])
    if result.returncode or "JobState=" not in result.stdout:
        raise UserError(f"cluster={cluster.word} has no job {job} ({last_line(result.stderr)}): squeue --me lists yours")
    return [_task(line.strip(), job) for line in result.stdout.splitlines() if "JobState=" in line]


def _task(line: str, job: str) -> Task:
    """Return the task that a line of `scontrol show job --oneliner` describes."""

    def value(pattern: str) -> str:
        match = re.search(pattern, line)
        return match[1] if match else ""

    task = value(r"\bArrayTaskId=(\S+)")
    return Task(
        f"{job}_{task}" if task else job,
        value(r"\bJobState=(\w+)"),
        value(r"\bReason=(\S+)"),
        int(value(r"\bExitCode=(\d+):") or 0),
        Path(value(r"\bStdOut=(\S.*?)(?= \w+=|$)") or os.devnull),
    )


def _end(tasks: Sequence[Task]) -> int:
    """Print how tasks ended, unless they succeeded; return the exit code of the job."""
    failed = [task for task in tasks if task.state != "COMPLETED"]
    for task in failed:
        print_lines(f"render: job {task.name} ended: {task.state.lower()}", file=sys.stderr)
    if not failed:
        return 0
    if all(task.state == "CANCELLED" for task in failed):
        return interrupts.EXIT_CODE
    return max(task.code for task in failed) or 1


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
