"""TPU slices in the descriptions of Ray's nodes: which cannot be used to render, and which chips of one a worker sees.

On such a slice no host can use its chips alone: all must start the same program together and run it in step. A worker is
one process that starts and ends independently.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

#: Remedy for users: the slices that can be used.
SHAPES = "take slices of one host, as many as you like: v5e (v5litepod) or v6e of 1, 4 or 8 chips, v4-8 or v5p-8"
#: Ray's labels of a node.
_NAME, _TOPOLOGY, _KIND = "ray.io/tpu-slice-name", "ray.io/tpu-topology", "ray.io/tpu-pod-type"
#: Ray's resource of the first host of a slice.
_HEAD = re.compile(r"TPU-(?P<kind>.+-\d+)-head")
#: Numbers of chips that a host of a slice can have.
_CHIPS_OF_A_HOST = (1, 2, 4, 8)
#: How the chips that a process sees lie on its host, as libtpu wants it said.
_VISIBLE, _CHIP_BOUNDS, _HOST_BOUNDS = "TPU_VISIBLE_CHIPS", "TPU_CHIPS_PER_HOST_BOUNDS", "TPU_HOST_BOUNDS"
_FOUR_CHIPS, _ONE_HOST = "2,2,1", "1,1,1"
#: Generations whose slices are named by chips; the others are named by cores, two to a chip.
_ONE_CORE = ("v5litepod", "v5e", "v6e")


def bound_visible_chips(environment: MutableMapping[str, str]) -> None:
    """Say how the chips that Ray lets this process see lie, where Ray does not.

    Ray names the visible chips, and says how they lie if there are one or two. If they are all of their host, nothing need
    be said; but for four of a host's eight, libtpu would look for all eight.

    Args:
        environment: Variables of this process, before JAX starts.
    """
    if len(environment.get(_VISIBLE, "").split(",")) == math.prod(map(int, _FOUR_CHIPS.split(","))):
        environment.setdefault(_CHIP_BOUNDS, _FOUR_CHIPS)
        environment.setdefault(_HOST_BOUNDS, _ONE_HOST)


def hidden_chips(nodes: Sequence[Mapping[str, Any]]) -> str | None:
    """Return a text for users that names a node where Ray does not see all chips of a host, or None.

    Args:
        nodes: Ray's nodes, as `ray.nodes` returns them.
    """
    for node in nodes:
        chips, labels = int(node["Resources"].get("TPU", 0)), node.get("Labels", {})
        if not chips or chips in _CHIPS_OF_A_HOST:
            continue
        heads = [match["kind"] for name in node["Resources"] if (match := _HEAD.fullmatch(name))]
        kind = labels.get(_KIND) or next(iter(heads), None)
        # A slice of more chips than one host has lies on several.
        total = min(_chips(kind, labels.get(_TOPOLOGY)), _CHIPS_OF_A_HOST[-1])
        if total <= chips:
            total = next((count for count in _CHIPS_OF_A_HOST if count > chips), chips)
        if total > chips:
            name = node.get("NodeName") or node.get("NodeManagerAddress") or "a node"
            return f"{name} shows {chips} of its {total} TPU chips" + (f" ({kind})" if kind else "")
    return None


def multi_host_slice(nodes: Sequence[Mapping[str, Any]]) -> str | None:
    """Return a text for users that names a slice of several hosts, or None.

    A slice has several hosts if several nodes have its name, or if it has more chips than its node.

    Args:
        nodes: Ray's nodes, as `ray.nodes` returns them.
    """
    node_counts = Counter(node.get("Labels", {}).get(_NAME) for node in nodes if node["Resources"].get("TPU"))
    for node in nodes:
        resources, labels = node["Resources"], node.get("Labels", {})
        chips = int(resources.get("TPU", 0))
        heads = [match["kind"] for name in resources if (match := _HEAD.fullmatch(name))]
        kind, name, topology = labels.get(_KIND) or next(iter(heads), None), labels.get(_NAME), labels.get(_TOPOLOGY)
        if not chips:
            continue
        hosts = max(node_counts[name] if name else 1, -(-_chips(kind, topology) // chips))
        if hosts > 1:
            shape = ", ".join(part for part in (kind, f"topology {topology}" if topology else None) if part)
            description = " ".join(part for part in (name, f"({shape})" if shape else None) if part)
            return f"TPU slice {description} spans {hosts} hosts"
    return None


def _chips(kind: str | None, topology: str | None) -> int:
    """Return a slice's number of chips by its topology (4x4) or kind (v6e-16), or else 1."""
    if topology and re.fullmatch(r"\d+(x\d+)+", topology):
        return math.prod(map(int, topology.split("x")))
    if kind:
        generation, _, size = kind.rpartition("-")
        if size.isdecimal():
            return int(size) if generation in _ONE_CORE else max(1, int(size) // 2)
    return 1
