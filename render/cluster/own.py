"""Clusters of machines that are there anyway: those of the user, reached by ssh, or this one alone.

What is up is noted in the user's cache, for the commands that follow. Only processes of the cluster are ended, which are
known by a variable in their environment: other Rays on the machines go on.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import ray

from render.cluster.access import local_token, make_token
from render.cluster.cluster_files import DASHBOARD_PORT, LOCAL, Cluster
from render.cluster.dashboard import Dashboard
from render.cluster.own_nodes import THIS_MACHINE, Node, ask_all, checked_hosts
from render.cluster.tunnel import forwarded
from render.errors import UserError
from render.export.picture import write_whole
from render.farm.versions import own_versions
from render.system.paths import cache_directory
from render.terminal.lines import print_lines

_MAX_RECORD_BYTES = 1 << 20
#: Random bytes of a cluster's id. It is part of the path of Ray's sockets, for which 107 bytes are the most.
_ID_BYTES = 3


@dataclass(frozen=True)
class Record:
    """A cluster that was started from here.

    Attributes:
        hosts: Its machines as ssh knows them, the head first.
        pythons: Interpreters that the user has named, by host; the others are looked for.
        address: The head's address for its nodes; empty until the head has started.
        port: Its port for nodes.
        dashboard: Its dashboard's port on the head's loopback.
        directory: Ray's directory on every machine.
        id: Hexadecimal digits, by which its processes and directories are told from those of a cluster of the same word
            that was started elsewhere; empty for any such cluster.
    """

    hosts: tuple[str, ...]
    pythons: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    port: int = 0
    dashboard: int = DASHBOARD_PORT
    directory: str = ""
    id: str = ""

    @property
    def nodes(self) -> list[Node]:
        """The machines, the head first."""
        return [Node(host, self.pythons.get(host, "")) for host in self.hosts]


def up(cluster: Cluster, nodes: str, python: str) -> None:
    """Start the cluster on machines, or add machines to one that is up.

    Args:
        cluster: `own`, or `local` for this machine alone.
        nodes: Hosts with commas between, the head first; empty for those that the cluster has.
        python: Interpreter on all of them; empty to look for one.

    Raises:
        UserError: A machine cannot be reached, lacks the program, has other versions, or cannot start Ray. Then nothing
            that this call has started is left.
    """
    earlier = _read(cluster)
    record = _planned(cluster, earlier, nodes, python)
    addresses = _checked_addresses(cluster, record)
    if local_token() is None:
        make_token()
    # From here on, `cluster-down` knows what to end.
    _write(cluster, record)
    began: list[Node] = []
    doubtful: list[Node] = []
    try:
        record = _started(cluster, record, addresses, began, doubtful)
    except UserError as error:
        # What the cluster had before is in its earlier record, and may be running well.
        new = [node for node in doubtful if earlier is None or node.host not in earlier.hosts]
        _undo(cluster, earlier, record, [*began, *new], error)
    _write(cluster, record)
    print_lines(
        f"{cluster.word} is up: Ray {ray.__version__} at {record.address}:{record.port} on {_machines(record.hosts)}"
        + (f", {len(began)} of them started now" if 0 < len(began) < len(record.hosts) else "")
    )


def _undo(cluster: Cluster, earlier: Record | None, record: Record, nodes: Sequence[Node], error: UserError) -> NoReturn:
    """End Ray on machines where a start has begun or may have, note what is left, and raise the reason as `UserError`."""
    answers, errors = ask_all(nodes, "stop", lambda _node: _identity(cluster, record))
    if not errors:
        _write(cluster, earlier)
        raise error
    left = [node.host for node in nodes if node.host not in answers]
    # A head that was stopped has no address. The next start begins anew on all machines.
    base = earlier or record
    _write(cluster, replace(base, hosts=tuple(dict.fromkeys([*base.hosts, *left])), pythons=record.pythons))
    raise UserError(f"{error}; Ray may still run on {', '.join(left)}: make cluster-down cluster={cluster.word} ends it")


def down(cluster: Cluster, nodes: str, python: str) -> None:
    """End every process of the cluster on its machines, or on some of them.

    Args:
        cluster: `own`, or `local` for this machine alone.
        nodes: Hosts with commas between; empty for all that the cluster has. Without a record of it, any cluster of this
            user's with the same word is ended there.
        python: Interpreter on them; empty for the one that is noted.

    Raises:
        UserError: A machine cannot be reached (the others are done), or the words do not fit the cluster.
    """
    _refuse_nodes_of_local(cluster, nodes)
    record = _read(cluster)
    hosts = tuple(checked_hosts(nodes)) or (record.hosts if record is not None else ())
    if not hosts:
        if cluster.word == LOCAL:
            raise UserError(f"cluster={cluster.word} was not started from here: end it with `ray stop`")
        raise UserError(f"cluster={cluster.word} was not started from here: name its machines with nodes=HOST,HOST")
    remaining = _remaining(cluster, record, hosts)
    part = replace(record or Record(hosts), hosts=hosts)
    if python:
        part = replace(part, pythons=dict.fromkeys(hosts, python))
    answers, errors = ask_all(part.nodes, "stop", lambda _node: _identity(cluster, part))
    if errors:
        raise UserError(f"{_joined(errors)}; {len(answers)} of {len(hosts)} machines are done: run this again")
    _write(cluster, replace(record, hosts=remaining) if record is not None and remaining else None)
    ended = sum(answer["ended"] for answer in answers.values())
    if remaining:
        print_lines(f"{ended} processes ended on {_machines(hosts)}; {cluster.word} goes on on {_machines(remaining)}")
    else:
        print_lines(f"{cluster.word} is down: {ended} processes ended on {_machines(hosts)}")


def _remaining(cluster: Cluster, record: Record | None, hosts: Sequence[str]) -> tuple[str, ...]:
    """Return the machines that the cluster keeps without `hosts`. Raise `UserError` if it cannot go on with those."""
    if record is None:
        return ()
    others = [host for host in hosts if host not in record.hosts]
    if others:
        raise UserError(f"nodes=: cluster={cluster.word} does not have {others[0]}: it is on {', '.join(record.hosts)}")
    remaining = tuple(host for host in record.hosts if host not in hosts)
    if remaining and record.hosts[0] in hosts:
        raise UserError(
            f"nodes=: {record.hosts[0]} is the head, without which the others are of no use: make cluster-down "
            f"cluster={cluster.word} ends all"
        )
    return remaining


@contextmanager
def reached(cluster: Cluster) -> Iterator[Dashboard]:
    """Yield the head's dashboard: through a tunnel of ssh, or on this machine's loopback."""
    record = _read(cluster)
    if cluster.word != LOCAL and (record is None or not record.address):
        raise UserError(f"cluster={cluster.word} is not up: make cluster-up cluster={cluster.word} nodes=HOST,HOST")
    port = record.dashboard if record is not None else DASHBOARD_PORT
    if record is None or record.hosts[0] == THIS_MACHINE:
        tunnel: AbstractContextManager[str] = nullcontext(f"http://127.0.0.1:{port}")
    else:
        tunnel = forwarded(lambda local_port: record.nodes[0].tunnel_command(local_port, port), cluster.word)
    with tunnel as url:
        yield Dashboard(cluster.word, url, local_token()).greeted()


def _planned(cluster: Cluster, record: Record | None, nodes: str, python: str) -> Record:
    """Return the record of the cluster with the machines that it is to have."""
    _refuse_nodes_of_local(cluster, nodes)
    hosts = [THIS_MACHINE] if cluster.word == LOCAL else checked_hosts(nodes)
    if record is None:
        if not hosts:
            raise UserError(
                f"which machines has cluster={cluster.word}? nodes=HOST,HOST, the head first, as `ssh HOST` knows them"
            )
        pythons = dict.fromkeys(hosts, python) if python else {}
        return Record(tuple(hosts), pythons, id=secrets.token_hex(_ID_BYTES))
    if hosts and hosts[0] != record.hosts[0]:
        raise UserError(
            f"cluster={cluster.word} is up already, and its head is {record.hosts[0]}: make cluster-down "
            f"cluster={cluster.word} first, or name that one first to add machines"
        )
    all_hosts = tuple(dict.fromkeys([*record.hosts, *hosts]))
    return replace(
        record, hosts=all_hosts, pythons={**record.pythons, **(dict.fromkeys(all_hosts, python) if python else {})}
    )


def _checked_addresses(cluster: Cluster, record: Record) -> dict[str, str]:
    """Return the addresses by which ssh reaches the machines, by host.

    Raise `UserError`, which names every machine at fault, unless all can be reached and have the same versions.
    """
    answers, errors = ask_all(record.nodes, "check", lambda _node: _identity(cluster, record))
    # This machine only sends jobs, for which the last digit of Python's version does not matter. Ray's nodes must share it.
    expected, place = {**own_versions(), "ray": ray.__version__}, "here"
    for node in record.nodes:
        if node.host not in answers:
            continue
        answer = answers[node.host]
        versions = answer["versions"]
        if place == "here":
            versions = {**versions, "python": ".".join(versions["python"].split(".")[:2])}
        differing = [name for name in expected if versions[name] != expected[name]]
        if differing:
            ours, theirs = (", ".join(f"{name} {side[name]}" for name in differing) for side in (expected, versions))
            errors.append(
                UserError(f"version mismatch: {ours} {place}, {theirs} on {node.host}: bring both to the same version")
            )
        elif place == "here":
            expected, place = answer["versions"], f"on {node.host}"
            if answer["missing"]:
                errors.append(
                    UserError(
                        f"{node.host} lacks {answer['missing'][0]}, which the head needs: install pareidolia[cluster]"
                    )
                )
    if errors:
        raise UserError(_joined(errors))
    return {host: answer["address"] for host, answer in answers.items()}


def _started(
    cluster: Cluster, record: Record, addresses: Mapping[str, str], began: list[Node], doubtful: list[Node]
) -> Record:
    """Start the head unless it runs, then the other machines; return the record with where it is.

    Args:
        cluster: The cluster.
        record: Its machines.
        addresses: Those of the machines, by host.
        began: Gets the machines on which Ray was started.
        doubtful: Gets the machines that did not say whether it was.

    Raises:
        UserError: Ray does not start on a machine.
    """
    head, *others = record.nodes
    address = addresses[head.host] if cluster.word != LOCAL else ""
    request = {**_identity(cluster, record), "token": local_token(), "anew": not record.address}
    print_lines(f"starting Ray on {head.host}")
    try:
        answer = head.ask("start", {**request, "head": "", "directory": "", "address": address})
    except UserError:
        doubtful.append(head)
        raise
    if answer["began"]:
        began.append(head)
        record = replace(
            record, address=answer["address"], **{name: answer[name] for name in ("port", "dashboard", "directory")}
        )
        # The directory has to be known should this be interrupted.
        _write(cluster, record)
    # Nodes of a head that is gone are of no use.
    request |= {"anew": answer["began"], "head": f"{record.address}:{record.port}", "directory": record.directory}
    if others:
        print_lines(f"starting Ray on {_machines([node.host for node in others])}")
    answers, errors = ask_all(others, "start", lambda node: {**request, "address": addresses[node.host]})
    began += [node for node in others if node.host in answers and answers[node.host]["began"]]
    doubtful += [node for node in others if node.host not in answers]
    if errors:
        raise UserError(_joined(errors))
    return record


def _identity(cluster: Cluster, record: Record) -> dict[str, str]:
    """Return the part of a request that says which cluster is meant."""
    return {"name": cluster.word, "id": record.id}


def _refuse_nodes_of_local(cluster: Cluster, nodes: str) -> None:
    if nodes and cluster.word == LOCAL:
        raise UserError(f"cluster={LOCAL} is this machine: nodes= is for cluster=own")


def _machines(hosts: Sequence[str]) -> str:
    return hosts[0] if len(hosts) == 1 else f"{len(hosts)} machines"


def _joined(errors: Sequence[UserError]) -> str:
    return "; ".join(map(str, errors))


def _path(cluster: Cluster) -> Path:
    return cache_directory() / "clusters" / f"{cluster.word}.json"


def _write(cluster: Cluster, record: Record | None) -> None:
    """Note a cluster in the user's cache; None notes that there is none."""
    if record is None:
        _path(cluster).unlink(missing_ok=True)
        return
    _path(cluster).parent.mkdir(parents=True, exist_ok=True)
    write_whole(_path(cluster), json.dumps(asdict(record), indent=1).encode())


def _read(cluster: Cluster) -> Record | None:
    """Return what is noted of a cluster, or None. Raise `UserError` if it is damaged."""
    path = _path(cluster)
    try:
        with path.open("rb") as file:
            values: Any = json.loads(file.read(_MAX_RECORD_BYTES))
        record = Record(**{**values, "hosts": tuple(values["hosts"])})
        texts = (*record.hosts, *record.pythons, *record.pythons.values(), record.address, record.directory, record.id)
        numbers = (record.port, record.dashboard)
        is_typed = all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)
        is_named = checked_hosts(",".join(record.hosts)) == [*record.hosts] and re.fullmatch(r"[0-9a-f]+", record.id)
        if is_typed and is_named:
            return record
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UserError):
        """Said below."""
    raise UserError(f"{path}, which notes where cluster={cluster.word} runs, is damaged: remove it")
