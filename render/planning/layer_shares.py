"""Figures of kernels on accelerators relative to a network's activations, measured by the deepest layer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from render.networks.architecture import Architecture


class LayerShare(NamedTuple):
    """Figure of a kernel that dreams of a layer, relative to the size of all its activations in float32."""

    layer: str
    #: In float32 and in TensorFloat-32.
    float32: float
    bfloat16: float


def share_of(
    measured: Mapping[str, tuple[LayerShare, ...]], other: LayerShare, architecture: Architecture, precision: str
) -> float:
    """Return the figure for a network's deepest layer; a layer between two that were measured counts as the deeper.

    Args:
        measured: For each network, its layers from shallow to deep.
        other: Stands for a network that was not measured.
        architecture: The network, up to the deepest layer that is dreamed of.
        precision: Precision of the kernels, one of `render.config.schema.PRECISIONS`.
    """
    last = architecture.nodes[-1].name
    shares = (*measured.get(architecture.name, ()), other)
    # The first that is at least as deep: the network ends at `last`, so deeper layers are not in it.
    share = next(share for share in shares if share.layer == last or share.layer not in architecture.layers)
    return share.bfloat16 if precision == "bfloat16" else share.float32
