"""Options of `sbatch` in the words of a job, such as `sbatch.nodes=8`, and why Slurm refuses a job."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from render.cluster.tool_calls import last_line, output_of
from render.errors import UserError

#: Beginning of the words that are options of sbatch.
PREFIX = "sbatch."
#: Options that the script or this program needs as they are, with what to use instead.
_RESERVED = {
    "job-name": "name= names the job",
    "ntasks": "each node runs one task",
    "ntasks-per-node": "each node runs one task",
    **dict.fromkeys(
        (
            "chdir", "error", "export", "export-file", "help", "open-mode", "output", "parsable", "quiet", "test-only",
            "usage", "version", "wait", "wrap",
        ),
        "the program sets it itself",
    ),
}  # fmt: skip
_GPU_OPTIONS = ("gres", "gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task")
#: Groups of options that ask for one thing in several ways. Slurm takes one of each group, or refuses them together.
_ALTERNATIVES = (_GPU_OPTIONS, ("mem", "mem-per-cpu", "mem-per-gpu"))
_OPTION_LINE = re.compile(r"#SBATCH\s+--([a-z-]+)(?:[= ](\S+))?")


def split_options(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options of sbatch in a job's words, without their prefix, and the other words.

    Raise `UserError` for an option that has no name, or that cannot be changed.
    """
    options: dict[str, str] = {}
    other_words = []
    for word in words:
        if not word.startswith(PREFIX):
            other_words.append(word)
            continue
        key, _, value = word.removeprefix(PREFIX).partition("=")
        if not re.fullmatch(r"[a-z][a-z-]+", key):
            raise UserError(f"{word}: write {PREFIX}OPTION=VALUE with a long option of sbatch, such as {PREFIX}nodes=4")
        if key in _RESERVED:
            raise UserError(f"{word} cannot be set: {_RESERVED[key]}")
        if not value:
            raise UserError(f"{word} has no value: {PREFIX}{key}=VALUE, or true for an option without one")
        options[key] = value
    return options, other_words


def arguments(options: Mapping[str, str]) -> list[str]:
    """Return options as words of sbatch. No GPUs are asked for by leaving the option out."""
    return [
        f"--{key}" if value == "true" else f"--{key}={value}"
        for key, value in options.items()
        if not (key in _GPU_OPTIONS and value in ("0", "none"))
    ]


def script_text(text: str, options: Mapping[str, str]) -> str:
    """Return a batch script without the lines that `options` replace: those of the same options or alternatives to them."""
    replaced = set(options).union(*(group for group in _ALTERNATIVES if not options.keys().isdisjoint(group)))
    return "".join(
        line
        for line in text.splitlines(keepends=True)
        if (match := _OPTION_LINE.match(line)) is None or match[1] not in replaced
    )


def option_lines(text: str) -> dict[str, str]:
    """Return the long options in the lines `#SBATCH` of a batch script, with their values."""
    lines = map(_OPTION_LINE.match, text.splitlines())
    return {match[1]: match[2] or "true" for match in lines if match}


def refusal(word: str, text: str, options: Mapping[str, str], message: str) -> str:
    """Return the line that says why Slurm does not take a job, and what to do.

    Args:
        word: The user's name of the cluster.
        text: The batch script.
        options: The options given besides.
        message: What sbatch printed.
    """
    request = option_lines(script_text(text, options)) | dict(options)
    reason = last_line(message)
    if (unknown := re.search(r"\boption '--([a-z-]+)", message)) is not None:
        return f"{PREFIX}{unknown[1]}: sbatch has no option --{unknown[1]}; man sbatch lists them"
    if "Invalid partition name" in reason:
        partition = _value(request, "partition")
        return (
            f"cluster={word} has no partition {partition!r}: {PREFIX}partition= takes {_listed('%R') or 'what sinfo lists'}"
        )
    if "Invalid account" in reason:
        account = _value(request, "account")
        return (
            f"cluster={word} does not let account {account!r} use partition {_value(request, 'partition')!r}: "
            f"{PREFIX}account= takes what `sacctmgr show associations user=$USER` lists"
        )
    if "Invalid qos" in reason:
        return f"cluster={word} has no QOS {_value(request, 'qos')!r} for you: `sacctmgr show qos` lists them"
    if any(part in reason for part in ("gres", "node configuration", "Node count", "More processors", "Memory")):
        asked = " ".join(f"{key}={request[key]}" for key in _SIZES if key in request)
        return (
            f"cluster={word} has no nodes for {asked} ({_reason(reason)}): it has {_nodes(request)}; {PREFIX}nodes=, "
            f"{PREFIX}cpus-per-task=, {PREFIX}mem= and {PREFIX}gpus-per-node= (0 for CPUs alone) ask for others"
        )
    return f"cluster={word}: sbatch does not take the job ({_reason(reason)})"


#: Options that say how large nodes must be, in the order of a message.
_SIZES = ("partition", "nodes", "cpus-per-task", *_ALTERNATIVES[1], *_GPU_OPTIONS, "constraint")


def _value(request: Mapping[str, str], key: str) -> str:
    return request.get(key) or os.environ.get(f"SBATCH_{key.upper()}") or "default"


def _reason(line: str) -> str:
    """Return a line of sbatch without its own name."""
    return re.sub(r"^(sbatch: )?(error: )?(Batch job submission failed: )?", "", line)


def _listed(columns: str) -> str:
    """Return the lines of sinfo, sorted, in one line; empty if it gives no answer."""
    result = output_of(["sinfo", "--noheader", "--format", columns])
    return ", ".join(sorted({line.strip() for line in result.stdout.splitlines()})) if not result.returncode else ""


def _nodes(request: Mapping[str, str]) -> str:
    """Return what nodes the cluster, or the partition that is asked for, has, as text."""
    partition = [f"--partition={request['partition']}"] if "partition" in request else []
    result = output_of(["sinfo", "--noheader", "--exact", *partition, "--format", "%D|%c|%m|%G"])
    kinds: dict[str, None] = {}
    for line in result.stdout.splitlines():
        number, cpus, memory, gres = (part.strip() for part in line.split("|"))
        gpus = gres if "gpu" in gres else "no GPUs"
        # Partitions may share nodes.
        kinds[f"{number} with {cpus} CPUs, {memory} MB and {gpus}"] = None
    return "; ".join(kinds) or "none that sinfo lists"
