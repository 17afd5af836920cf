"""Jobs on a running cluster, by Ray's job service. They outlive the command that sent them."""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from render.cluster.dashboard import Dashboard
from render.cluster.packing import JOB_FILE, pack
from render.errors import UserError
from render.system import interrupts
from render.system.version import __version__
from render.terminal.lines import print_lines
from render.terminal.text import without_colours

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

#: Environment variable of a job with the version of the program that sent it; see `refuse_other_version`.
SENT_BY = "RENDER_SENT_BY"
#: Command of a job. Its interpreter is that of the process of Ray's that runs it, which is known by the library in its
#: memory: the environment need not be on PATH. `exec`, so that only one process, and no shell, gets the signal to stop.
ENTRY_POINT = (
    r'python=$(sed -n "s|^.* \(/.*\)/lib/python[0-9.]*/site-packages/ray/_raylet[.]so$|\1/bin/python|p" "/proc/$PPID/maps" '
    r'2>/dev/null | head -n 1); [ -x "$python" ] || python=python; '
    f'exec "$python" -m render render conf={JOB_FILE}'
)
#: Longest time for a job to finish its current tile and save its canvas, s. Ray's default of 3 s would kill it before.
MAX_STOP_S = 1800
END_STATES = ("SUCCEEDED", "FAILED", "STOPPED")

_MAX_TRIES, _PAUSE_S, _POLL_S = 5, 2.0, 0.3
#: Lines that Ray writes into a job's log before the job does.
_RAY_LINES = re.compile(r"INFO job_manager\.py|^Running entrypoint for job ")


def refuse_other_version(sender: str) -> None:
    """Raise `UserError` if a job was sent by another version of the program than runs here."""
    if sender != __version__:
        raise UserError(
            f"version mismatch between driver and cluster: the job was sent by {sender}, and the cluster has {__version__}"
            ": bring both to the same version"
        )


def refuse_other_ray(dashboard: Dashboard) -> None:
    """Raise `UserError` if the cluster runs another version of Ray than is installed here."""
    if dashboard.ray != ray.__version__:
        raise UserError(
            f"cluster={dashboard.word}: version mismatch: Ray {ray.__version__} here, Ray {dashboard.ray} on the cluster; "
            "bring both to the same version"
        )


def job_id(name: str) -> str:
    """Return a new id, also valid as the name of a RayJob: the picture's name and random digits."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug[:1].isalpha():
        slug = f"dream-{slug}"
    return f"{slug[:40].strip('-')}-{secrets.token_hex(3)}"


def environment() -> dict[str, str]:
    """Return the environment variables of a job."""
    return {SENT_BY: __version__, "RAY_JOB_STOP_WAIT_TIME_S": str(MAX_STOP_S)}


def send(
    dashboard: Dashboard,
    job: str,
    settings: dict[str, Any],
    files: dict[str, Path],
    resubmit_command: str,
    driver_cpus: float = 0,
) -> None:
    """Send a job with its files.

    Args:
        dashboard: The cluster.
        job: Id of the job.
        settings: All settings of its config, as plain data.
        files: Its files, by their names in the job's directory.
        resubmit_command: Command that sends the same job once more.
        driver_cpus: CPUs that the job's driver reserves; 0 has it run on the head.
    """
    client = dashboard.client()
    with tempfile.TemporaryDirectory(prefix="render-job-") as directory:
        pack(settings, files, Path(directory))
        try:
            client.submit_job(
                entrypoint=ENTRY_POINT,
                submission_id=job,
                runtime_env={"working_dir": directory, "env_vars": environment()},
                metadata={"again": resubmit_command, "output": str(settings["output"]["dir"])},
                entrypoint_num_cpus=driver_cpus or None,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(f"cluster={dashboard.word} does not take the job ({_first_line(error)})") from None


def details(client: JobSubmissionClient, word: str, job: str) -> JobDetails:
    """Return what the cluster reports of a job. Raise `UserError` if it does not know the id."""
    try:
        return client.get_job_info(job)
    except RuntimeError as error:
        if "404" not in str(error):
            raise UserError(f"cluster={word} does not tell of job {job} ({_first_line(error)})") from None
    ids = ", ".join(_ids(client.list_jobs()))
    raise UserError(f"cluster={word} has no job {job!r}: {f'there are {ids}' if ids else 'there is none'}")


def listed(client: JobSubmissionClient) -> list[JobDetails]:
    """Return the jobs that were sent to the cluster, the oldest first."""
    return sorted((job for job in client.list_jobs() if job.submission_id), key=lambda job: job.start_time or 0)


def only_running(client: JobSubmissionClient, word: str) -> str:
    """Return the id of the only running job. Raise `UserError` if there is not exactly one."""
    jobs = listed(client)
    running = _ids(job for job in jobs if job.status not in END_STATES)
    if len(running) == 1:
        return running[0]
    ids = ", ".join(running or _ids(jobs))
    problem = f"which job? job=ID, with one of {ids}" if ids else "no job was sent to it"
    raise UserError(f"cluster={word}: {problem}")


def follow(dashboard: Dashboard, job: str, *, skip: int = 0) -> JobDetails:
    """Print a job's log as it grows, until the job ends; return its final details.

    Args:
        dashboard: The cluster.
        job: Id of the job.
        skip: Characters at the log's beginning that are not printed.

    Raises:
        UserError: The connection is lost for good; the job continues.
    """
    client = dashboard.client()
    log, connection_errors, reason = _Log(skip), _connection_errors(), ""
    for number in range(_MAX_TRIES):
        try:
            asyncio.run(log.copy(client, job))
            while (info := details(client, dashboard.word, job)).status not in END_STATES:
                # The log is closed a moment before the status changes.
                time.sleep(_POLL_S)
            return info
        except connection_errors as error:
            log.reopen()
            reason = _first_line(error)
            if number < _MAX_TRIES - 1:
                time.sleep(_PAUSE_S)
        finally:
            log.flush()
    raise UserError(
        f"the connection to cluster={dashboard.word} is lost ({reason}); the job goes on: make attach "
        f"cluster={dashboard.word} job={job}"
    )


def exit_code(info: JobDetails) -> int:
    """Return the exit code of the command that followed a job; print why a job did not succeed.

    It is 0, the job's own exit code, 130 if the job was stopped, or 1.
    """
    job, resubmit_command = info.submission_id, (info.metadata or {}).get("again", "")
    if info.status == "SUCCEEDED":
        return 0
    hint = f"; to go on: {resubmit_command}" if resubmit_command else ""
    if info.status == "STOPPED":
        print_lines(f"render: job {job} was stopped{hint}", file=sys.stderr)
        return interrupts.EXIT_CODE
    code = info.driver_exit_code
    if code is None:
        print_lines(f"render: job {job} failed ({_first_line(info.message or 'no reason given')}){hint}", file=sys.stderr)
        return 1
    if code < 0 or code > 128:
        print_lines(f"render: job {job} was killed by signal {-code if code < 0 else code - 128}{hint}", file=sys.stderr)
        return 1
    print_lines(f"render: job {job} failed with exit code {code}: its last lines say why", file=sys.stderr)
    return code


def stop(dashboard: Dashboard, job: str) -> JobDetails:
    """Have a job save its canvas and end; print its log until it has. Return its final details."""
    client = dashboard.client()
    info = details(client, dashboard.word, job)
    if info.status in END_STATES:
        raise UserError(f"job {job} has ended already: {info.status.lower()}")
    log_length = len(client.get_job_logs(job))
    client.stop_job(job)
    return follow(dashboard, job, skip=log_length)


class _Log:
    """A job's log on its way to standard output. It may be opened more than once.

    `skip` characters at its beginning are not printed.
    """

    def __init__(self, skip: int) -> None:
        self._printed, self._position, self._rest = skip, 0, ""

    async def copy(self, client: JobSubmissionClient, job: str) -> None:
        """Print new text until the job ends."""
        async for text in client.tail_job_logs(job):
            begin, self._position = self._position, self._position + len(text)
            if self._position > self._printed:
                self._write(text[max(0, self._printed - begin) :])
                self._printed = self._position

    def reopen(self) -> None:
        """Expect the next text to start at the log's beginning again."""
        self._position = 0

    def _write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        print_lines(*(without_colours(line) for line in lines if not _RAY_LINES.search(line)))

    def flush(self) -> None:
        """Print an unfinished last line."""
        if self._rest:
            print_lines(without_colours(self._rest))
            self._rest = ""


def _connection_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that a broken connection raises."""
    import aiohttp
    import requests

    return RuntimeError, OSError, aiohttp.ClientError, requests.RequestException


def _ids(jobs: Iterable[JobDetails]) -> list[str]:
    return [job.submission_id for job in jobs if job.submission_id]


def _first_line(error: object) -> str:
    """Return the first line of an error of Ray: a whole page may follow."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")[:300]
