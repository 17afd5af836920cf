"""The step of a Slurm job that runs `render.cluster.slurm_node` on every node, seen from its batch step."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from render.cluster.tool_calls import last_line

#: Longest time for nodes to end Ray and remove their directories, s.
_MAX_CLOSE_S = 60.0
#: Runs on each node. A shell reports what the program cannot: that there is no Python, or not this program. It ignores
#: SIGTERM, which the program handles.
_SHELL = """trap "" TERM
"$0" -m render.cluster.slurm_node "$@" || code=$?
printf '{"node": "%s", "ended": %d, "python": "%s"}\\n' "$SLURMD_NODENAME" "${code:-0}" "$0"
"""


class NodeStep:
    """Ray's nodes, as one step of the job, between `__enter__` and `__exit__`.

    Args:
        nodes: Names of the job's nodes.
        directory: Directory of each node.
        cpus: CPUs of each node.
        variables: Variables to add to the nodes' environment.
        events: Queue that is told `("report", object)` for each report of a node, and `("step", exit code)` at the end.

    Attributes:
        facts: Versions, by node.
        address: Address of Ray's head, once it is known.
        up: Nodes that have started Ray.
        failures: Why nodes have ended, by node.
        code: Exit code of `srun`, once it has ended.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        directory: Path,
        cpus: int,
        variables: Mapping[str, str],
        events: SimpleQueue[tuple[str, Any]],
    ) -> None:
        """Store the arguments; nothing is started."""
        count = len(nodes)
        self._command = [
            "srun", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1", f"--cpus-per-task={cpus}",
            # The others go on without a node that ends.
            "--kill-on-bad-exit=0", "--wait=0", "--unbuffered",
            "sh", "-c", _SHELL, sys.executable, str(directory), str(cpus),
        ]  # fmt: skip
        self._environment = own_environment(variables)
        self._events = events
        self._messages: deque[str] = deque(maxlen=40)
        self._process: subprocess.Popen[str] | None = None
        self._is_closing = False
        self.facts: dict[str, dict[str, str]] = {}
        self.address: str | None = None
        self.up: set[str] = set()
        self.failures: dict[str, str] = {}
        self.code: int | None = None

    def __enter__(self) -> NodeStep:
        """Start the step."""
        process = subprocess.Popen(
            self._command, env=self._environment, text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._process = process
        threading.Thread(target=self._read_messages, args=(process,), daemon=True).start()
        threading.Thread(target=self._read_reports, args=(process,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Have the nodes end Ray and remove their directories."""
        assert self._process is not None and self._process.stdin is not None
        self._is_closing = True
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_MAX_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tell(self, word: str) -> None:
        """Send a word to all nodes."""
        assert self._process is not None and self._process.stdin is not None
        # That the step has ended is an event of its own.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()

    def note(self, kind: str, value: Any) -> Iterator[str]:
        """Store an event of the step; yield lines for the job's log."""
        if kind == "step":
            self.code = value
            return
        node = value["node"]
        if "facts" in value:
            self.facts[node] = value["facts"]
        elif "address" in value:
            self.address = value["address"]
        elif "up" in value:
            self.up.add(node)
        elif "failed" in value:
            self.failures[node] = value["failed"]
            yield f"{node}: {value['failed']}"
            yield from (f"{node}: {line}" for line in value.get("log", "").splitlines())
        elif "ended" in value and not self._is_closing:
            self.failures.setdefault(node, self._why_ended(value["ended"], value["python"]))

    def reason(self) -> str:
        """Return why the nodes are not up, as far as it is known."""
        if self.failures:
            node, failure = next(iter(self.failures.items()))
            return f"node {node}: {failure}"
        return f"srun: {last_line(chr(10).join(self._messages))}"

    def _why_ended(self, code: int, python: str) -> str:
        if code in (126, 127):
            return f"{python} is not there: the environment must be in a directory that all nodes see (make setup)"
        return f"{python} cannot run the program ({last_line(chr(10).join(self._messages))})"

    def _read_reports(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                report = json.loads(line)
            except ValueError:
                report = None
            if isinstance(report, dict) and isinstance(report.get("node"), str):
                self._events.put(("report", report))
            else:
                self._messages.append(line)
        self._events.put(("step", process.wait()))

    def _read_messages(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self._messages.extend(process.stderr)


def own_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process' environment with `variables`, and without the words of the command that sent the job.

    `make` passes its words in a variable, and Slurm passes the variables of the sender on to the job. The job has its words
    as arguments.
    """
    return {**{key: value for key, value in os.environ.items() if key != "RENDER_OVERRIDES"}, **variables}
