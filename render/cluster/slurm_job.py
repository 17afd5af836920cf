"""The batch step of a Slurm job: it starts Ray on the job's nodes, renders, and queues the job again if its time is up.

`cluster/slurm.sh` becomes this program. Signals that it hears, and what follows after the render has saved its canvas:

- SIGUSR1, shortly before the time limit (`--signal` in the script) or before a preemption (with Slurm's
  `preempt_send_user_signal`): the job is queued again.
- SIGTERM at the nodes, which is how Slurm tells of a preemption otherwise (see `render.cluster.slurm_node`): likewise.
- SIGTERM, from `make stop`: the job is cancelled.

What a job knows of its earlier starts is in `render.cluster.slurm_restart`.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from render.cluster.slurm_node import DIRECTORY_PREFIX, HEAD, JOIN, facts
from render.cluster.slurm_restart import MAX_IDLE_RESTARTS, BeginningNote, words_of_restart
from render.cluster.slurm_step import NodeStep, own_environment
from render.cluster.tool_calls import last_line, output_of
from render.errors import UserError
from render.system import beginning, interrupts
from render.terminal.lines import print_lines
from render.terminal.streams import accept_any_text

_DEFAULT_PATIENCE_S = 300.0
_POLL_S = 0.5
#: States of a job that has been cancelled or that Slurm is ending: it must not be queued again.
_ENDING_STATES = ("CANCELLED", "COMPLETING", "PREEMPTED", "TIMEOUT", "NODE_FAIL", "FAILED")
_WAIT_LONGER = "RENDER_PATIENCE=SECONDS in the environment waits longer"


@dataclass(frozen=True)
class Allocation:
    """Nodes of the job and limits, as Slurm tells them.

    Attributes:
        job: Number of the job, as `scontrol` and `scancel` take it; of a job array's task with the task's number.
        nodes: Names of its nodes.
        cpus: CPUs of each.
        directory: Directory of each node for Ray.
        patience_s: Longest wait for all nodes, s.
        task: Number of this task of a job array, or None.
    """

    job: str
    nodes: tuple[str, ...]
    cpus: int
    directory: Path
    patience_s: float
    task: str | None = None


def allocation(environment: Mapping[str, str]) -> Allocation:
    """Return the allocation that Slurm's variables describe. Raise `UserError` outside of a job."""
    job, node_list = environment.get("SLURM_JOB_ID", ""), environment.get("SLURM_JOB_NODELIST", "")
    if not (job.isdigit() and node_list):
        raise UserError("this is the program of a Slurm job: send one with make submit cluster=slurm")
    patience_s = _patience_s(environment)
    result = output_of(["scontrol", "show", "hostnames", node_list])
    if result.returncode:
        raise UserError(f"scontrol does not list the job's nodes ({last_line(result.stderr)})")
    task = environment.get("SLURM_ARRAY_TASK_ID")
    # The last task of an array has the number of the whole array as its own.
    name = job if task is None else f"{environment['SLURM_ARRAY_JOB_ID']}_{task}"
    directory = Path(environment.get("RENDER_TEMPORARY") or "/tmp") / f"{DIRECTORY_PREFIX}{job}"
    cpus = int(environment.get("SLURM_CPUS_PER_TASK") or 1)
    return Allocation(name, tuple(result.stdout.split()), cpus, directory, patience_s, task)


def _patience_s(environment: Mapping[str, str]) -> float:
    text = environment.get("RENDER_PATIENCE") or str(_DEFAULT_PATIENCE_S)
    if not re.fullmatch(r"\d{1,9}(\.\d*)?", text):
        raise UserError(f"RENDER_PATIENCE={text} is no number of seconds: it is the longest wait for all nodes of the job")
    return float(text)


@dataclass
class BatchStep:
    """The program of one job.

    Attributes:
        allocation: Nodes and limits.
        command: Command of the render and its words.
        note: Says whether a render of this job has begun, now or before it was queued again.
        queue_again: True if the job's time is up, False if its user stops it; None if it goes on.
        may_go_on: True at the end of `run` if Slurm may start the job again.
    """

    allocation: Allocation
    command: Sequence[str]
    note: BeginningNote
    queue_again: bool | None = None
    may_go_on: bool = False
    _is_time_up: bool = False
    _events: SimpleQueue[tuple[str, Any]] = field(default_factory=SimpleQueue)
    _child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Render on the nodes; return the job's exit code."""
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, lambda number, _frame: self._events.put(("signal", number)))
        # Ray takes in only those that have the token. It is this job's own, and Slurm passes it on to the nodes.
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        with NodeStep(self.allocation.nodes, self.allocation.directory, self.allocation.cpus, token, self._events) as step:
            try:
                code = self._render(step, own_environment({**token, beginning.NOTE: str(self.note.path)}))
            except _Left:
                code = interrupts.EXIT_CODE
        if code == interrupts.EXIT_CODE and self.queue_again is not None:
            return self._leave()
        return code

    def _render(self, step: NodeStep, environment: Mapping[str, str]) -> int:
        """Start Ray on the nodes and render; return the render's exit code."""
        number = len(self.allocation.nodes)
        patience_s = self.allocation.patience_s
        deadline = time.monotonic() + patience_s
        if not self._await(step, lambda: len(step.facts) == number, deadline):
            missing = next(node for node in self.allocation.nodes if node not in step.facts)
            raise UserError(
                f"{missing} has not started within {patience_s:.0f} s ({step.reason()}): is it up? {_WAIT_LONGER}"
            )
        refuse_other_versions(step.facts, facts())
        step.tell(HEAD)
        # Nodes that start before the head would give up.
        if not self._await(step, lambda: bool(step.up), deadline):
            raise UserError(f"Ray has not started within {patience_s:.0f} s: {_WAIT_LONGER}")
        step.tell(f"{JOIN} {step.address}")
        if not self._await(step, lambda: len(step.up) == number, deadline):
            line = f"render: {len(step.up)} of {number} nodes joined within {patience_s:.0f} s; going on with those"
            print_lines(line, file=sys.stderr)
        words = ["-m", "render", self.command[0], f"farm.address={step.address}", *self.command[1:]]
        return self._child_code(step, words, environment)

    def _await(self, step: NodeStep, is_done: Callable[[], bool], deadline: float) -> bool:
        """Take events until something is done; return whether it is before the deadline.

        Raise `UserError` if it cannot happen any more.
        """
        while not is_done():
            self._take_event(step)
            if self.queue_again is not None:
                raise _Left
            if step.failures or step.code is not None:
                raise UserError(step.reason())
            if time.monotonic() > deadline:
                return False
        return True

    def _child_code(self, step: NodeStep, words: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run Python with these words to its end, taking events meanwhile; return its exit code."""
        # Plain scancel sends SIGTERM to all processes here. The render gets one signal, from this program: a second one
        # would make it stop without saving. SIGINT waits until the render handles it, which then lets it in.
        blocked = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        try:
            child = subprocess.Popen([sys.executable, *words], env=dict(environment), stdin=subprocess.DEVNULL)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        self._child = child
        if self.queue_again is not None:
            child.send_signal(signal.SIGINT)
        threading.Thread(target=lambda: self._events.put(("child", child.wait())), daemon=True).start()
        while child.poll() is None:
            self._take_event(step)
        self._child = None
        return child.wait()

    def _take_event(self, step: NodeStep) -> None:
        """Wait for an event, for a moment at most, and act on it."""
        try:
            kind, value = self._events.get(timeout=_POLL_S)
        except Empty:
            return
        if kind == "signal" and value == signal.SIGTERM:
            self._prepare_to_leave(False, "to be ended: saving")
        elif kind == "signal":
            self._is_time_up = True
            self._prepare_to_leave(True, "time is nearly up, or the nodes are needed: saving")
        elif kind == "report" and "signal" in value:
            self._prepare_to_leave(True, f"Slurm ends the job's step on {value['node']}: saving")
        elif kind in ("report", "step"):
            for line in step.note(kind, value):
                print_lines(f"render: {line}", file=sys.stderr)

    def _prepare_to_leave(self, queue_again: bool, message: str) -> None:
        """Have the render save and end. A user's stop counts more than that the job's time is up."""
        is_first = self.queue_again is None
        if is_first or (self.queue_again and not queue_again):
            self.queue_again = queue_again
            print_lines(f"render: {message}", file=sys.stderr)
        if is_first and self._child is not None:
            self._child.send_signal(signal.SIGINT)

    def _leave(self) -> int:
        """Queue the job again, or cancel it; return the exit code, which Slurm then ignores."""
        job = self.allocation.job
        shown = output_of(["scontrol", "show", "job", "--oneliner", job])
        state = re.search(r"\bJobState=(\w+)", shown.stdout)
        if state is not None and state[1] in _ENDING_STATES:
            self.may_go_on = self.queue_again is True
            return interrupts.EXIT_CODE
        if not self.queue_again:
            # Before scancel, which ends this program with the job.
            self.note.remove()
            output_of(["scancel", job])
            return interrupts.EXIT_CODE
        restarts = self.note.restarts
        if self._is_time_up and restarts >= MAX_IDLE_RESTARTS and not self.note.has_begun():
            raise UserError(
                f"job {job} is not queued again: its time was up {restarts + 1} times before anything was rendered; send "
                "the same command with a longer sbatch.time="
            )
        # Said before, for the same reason. That also kills scontrol, whose negative code is then no refusal.
        print_lines(f"render: queueing job {job} again; it goes on from here", file=sys.stderr)
        result = output_of(["scontrol", "requeue", job])
        self.may_go_on = result.returncode <= 0
        if not self.may_go_on:
            line = f"render: Slurm does not queue job {job} again ({last_line(result.stderr)}): send the same command"
            print_lines(line, file=sys.stderr)
        return interrupts.EXIT_CODE


class _Left(Exception):
    """Raised if the job has to end before its render has started."""


def refuse_other_versions(node_facts: Mapping[str, Mapping[str, str]], expected: Mapping[str, str]) -> None:
    """Raise `UserError` if a node has another Python, program or Ray than this one.

    Args:
        node_facts: For each node, what `render.cluster.slurm_node.facts` returned there.
        expected: The same of this node.
    """
    for node, versions in node_facts.items():
        different = [name for name in expected if versions.get(name) != expected[name]]
        if different:
            raise UserError(
                f"node {node} has {_versions(versions, different)}, and the job was started with "
                f"{_versions(expected, different)}: give all nodes the same environment, where all of them see it"
            )


def _versions(versions: Mapping[str, str], names: Sequence[str]) -> str:
    return " and ".join(f"{name} {versions.get(name, 'of an unknown version')}" for name in names)


def words_of_task(words: Sequence[str], task: str | None) -> list[str]:
    """Return a job's words, with `%a` replaced by the number of the job array's task if there is one."""
    return list(words) if task is None else [word.replace("%a", task) for word in words]


def main(words: Sequence[str]) -> int:
    """Run one job with its words, the command `sweep` first if it is a sweep; return its exit code."""
    accept_any_text()
    try:
        job_allocation = allocation(os.environ)
        job_words = words_of_task(words, job_allocation.task)
        command = job_words if job_words[:1] in (["render"], ["sweep"]) else ["render", *job_words]
        note = BeginningNote.of_job(os.environ)
        note.open()
        step = BatchStep(job_allocation, words_of_restart(command, note), note)
        try:
            return step.run()
        finally:
            if not step.may_go_on:
                note.remove()
    except UserError as error:
        print_lines(f"render: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
