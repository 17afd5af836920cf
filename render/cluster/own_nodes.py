"""Machines of the user's own, reached by ssh: one program is sent to an interpreter there, and answers in one line."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from render.cluster import node_program
from render.cluster.tool_calls import last_line
from render.errors import UserError

#: Host by which this machine is meant, for which no ssh is needed.
THIS_MACHINE = "localhost"
#: The user's own configuration of ssh has the rest. A question could not be answered, so none is asked.
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")
#: Exit code of ssh itself, and of a machine without the program.
_SSH_FAILED, _NO_PROGRAM = 255, 127
#: A host as ssh takes it; no option of ssh begins so.
_HOST = re.compile(r"[\w.@:%][\w.@:%-]{0,254}", re.ASCII)
#: Longest answer of a node, s: a start is tried twice.
_MAX_ANSWER_S = {"check": 90.0, "start": 2 * node_program.MAX_START_S + 60.0, "stop": 90.0}
#: At most so many machines are asked at once.
_MOST_CALLS = 64
#: Finds an interpreter that has the program, and runs what comes on standard input: one of the arguments, or that of the
#: command `pareidolia`. Pip writes a long path of it behind `exec` in the second line.
_FIND_PYTHON = (
    'for p in "$@"; do if [ -x "$p" ] && "$p" -c "from importlib.util import find_spec as f;'
    ' raise SystemExit(f(\\"render\\") is None or f(\\"ray\\") is None)"; then exec "$p" -; fi; done; '
    'c=$(command -v pareidolia || echo "$HOME/.local/bin/pareidolia"); '
    'if [ -x "$c" ]; then p=$(sed -n "1s/^#.//p;1q" "$c"); '
    'case $p in */sh) p=$(sed -n "2s/^[^/]*\\(\\/[^ \\"]*\\).*/\\1/p" "$c");; esac; '
    '[ -x "$p" ] && exec "$p" -; fi; exit 127'
)


def checked_hosts(text: str) -> list[str]:
    """Return the hosts in `nodes=HOST,HOST`, the head first. Raise `UserError` for one that ssh would not take as such."""
    hosts = [host.strip() for host in text.split(",") if host.strip()]
    for number, host in enumerate(hosts):
        if not _HOST.fullmatch(host):
            raise UserError(f"nodes={text}: {host!r} is no name of a host: write HOST or USER@HOST, as for ssh")
        if host in hosts[:number]:
            raise UserError(f"nodes={text} has {host} twice")
    return hosts


class Node:
    """A machine of a cluster.

    `host` is its name for ssh, or `THIS_MACHINE`; `python` an interpreter there, empty if it is to be looked for.
    """

    def __init__(self, host: str, python: str = "") -> None:
        self.host = host
        self.python = python
        self._process: subprocess.Popen[str] | None = None

    def ask(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have the node's program do something, and return its answer.

        Args:
            action: `check`, `start` or `stop`.
            request: What the program needs for that. It is sent on standard input, where no other user sees it.

        Raises:
            UserError: The machine cannot be reached, has no such program, or cannot do it.
        """
        text = json.dumps({**request, "action": action})
        source = Path(node_program.__file__).read_text(encoding="utf-8")
        # Behind the import from __future__, which must be the first statement.
        program = source.replace("\nimport json\n", f"\nimport json\nREQUEST = json.loads({text!r})\n", 1)
        pipe = subprocess.PIPE
        command = self._command()
        try:
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace")
        except OSError as error:
            remedy = "install OpenSSH's client"
            if self.host == THIS_MACHINE:
                remedy = "python=PATH names an interpreter that has the program"
            raise UserError(f"{self.host}: {command[0]} cannot be run ({error.strerror}): {remedy}") from None
        self._process = process
        try:
            out, err = process.communicate(program, timeout=_MAX_ANSWER_S[action])
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise UserError(
                f"{self.host} gives no answer in {_MAX_ANSWER_S[action]:.0f} s: is it up, and not busy?"
            ) from None
        answer = self._answer(process.returncode, out, err)
        if "error" in answer:
            raise UserError(f"{self.host}: {answer['error']}")
        return answer

    def give_up(self) -> None:
        """End a call that another thread waits for. What it has begun on the machine may go on there."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def tunnel_command(self, port: int, remote_port: int) -> list[str]:
        """Return the command that forwards a port of this machine's loopback to one of the node's."""
        forwarding = f"127.0.0.1:{port}:127.0.0.1:{remote_port}"
        return [*SSH, "-o", "ExitOnForwardFailure=yes", "-N", "-L", forwarding, "--", self.host]

    def _command(self) -> list[str]:
        if self.host == THIS_MACHINE:
            return [self.python or sys.executable, "-"]
        candidates = [self.python] if self.python else [sys.executable]
        return [*SSH, "-T", "--", self.host, shlex.join(["sh", "-c", _FIND_PYTHON, "sh", *candidates])]

    def _answer(self, code: int, out: str, err: str) -> dict[str, Any]:
        for line in out.splitlines():
            if line.startswith(node_program.ANSWER_MARK):
                try:
                    answer = json.loads(line.removeprefix(node_program.ANSWER_MARK))
                except ValueError:
                    break
                if isinstance(answer, dict):
                    return answer
        if code == _SSH_FAILED and self.host != THIS_MACHINE:
            raise UserError(
                f"{self.host} cannot be reached by ssh ({last_line(err)}): `ssh {self.host} true` must work without "
                "a question"
            )
        if code == _NO_PROGRAM:
            named = self.python or sys.executable
            raise UserError(
                f"{self.host} does not have the program: neither {named} nor the command `pareidolia` is there with it; "
                "install the same version there, or name an interpreter that has it with python=PATH"
            )
        raise UserError(f"{self.host} does not answer as expected (exit code {code}: {last_line(err)})")


def ask_all(
    nodes: Sequence[Node], action: str, request_of: Callable[[Node], Mapping[str, Any]]
) -> tuple[dict[str, dict[str, Any]], list[UserError]]:
    """Ask machines at once; return the answers by host, and the errors of those that did not do it."""
    answers: dict[str, dict[str, Any]] = {}
    errors: list[UserError] = []

    def ask(node: Node) -> dict[str, Any] | UserError:
        try:
            return node.ask(action, request_of(node))
        except UserError as error:
            return error

    with ThreadPoolExecutor(min(_MOST_CALLS, max(1, len(nodes)))) as pool:
        try:
            for node, answer in zip(nodes, pool.map(ask, nodes), strict=True):
                if isinstance(answer, UserError):
                    errors.append(answer)
                else:
                    answers[node.host] = answer
        except KeyboardInterrupt:
            for node in nodes:
                node.give_up()
            raise
    return answers, errors
