"""What to compile for which device, and what is reported of it: plain data, for a process of its own and for tests."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from tests.accelerators.hlo import Product

#: Devices by name: their platform, and where a platform knows them by name their topology.
DEVICES = {"h200": ("cuda", ""), "a100": ("cuda", ""), "v5e": ("tpu", "v5e:2x2")}


@dataclass(frozen=True)
class Request:
    """One program to compile.

    Attributes:
        device: A name in `DEVICES`.
        model: A network.
        layer: The layer that is dreamed of.
        precision: The network's precision.
        side: Side of the window, px.
        core: Side of the core, px; 0 for the whole window.
        windows: Number of windows in a call.
        program: `gradient`; or one of the programs around it, by their names in `programs.BUILDERS`.
    """

    device: str
    model: str
    layer: str
    precision: str = "float32"
    side: int = 512
    core: int = 0
    windows: int = 1
    program: str = "gradient"


@dataclass(frozen=True)
class Report:
    """What a compiled program is made of.

    Attributes:
        products: Its convolutions and matrix products, with the number of each kind.
        kernels: Number of kernels, copies and library calls.
        copies: Number of these that only copy or transpose.
        select_and_scatters: Number of XLA's own gradients of max pools.
        host_transfers: Number of instructions that move data between device and host.
        argument_bytes: Bytes of its arguments.
        output_bytes: Bytes of its results.
        temp_bytes: Bytes that it needs beside these.
        accessed_bytes: Bytes that its kernels read and write, each operand and result counted whole.
        touched_bytes: The same, but slices of an operand count as what they are: of convolutions, matrix products, copies
            and other kernels, by `convolution`, `dot`, `copy` and `other`.
        flop: Operations of its convolutions and matrix products; 0 on TPUs.
        least_seconds: Time of its kernels by the device's nominal rates: see `roofline.least_seconds`.
        compile_seconds: Seconds that XLA took.
        scatters: Number of scatters that may meet at a place, where they add in the order in which threads arrive.
    """

    products: Counter[Product]
    kernels: int
    copies: int
    select_and_scatters: int
    host_transfers: int
    argument_bytes: int
    output_bytes: int
    temp_bytes: int
    accessed_bytes: int
    touched_bytes: dict[str, int]
    flop: int
    least_seconds: float
    compile_seconds: float
    scatters: int = 0

    @property
    def fused_convolutions(self) -> int:
        """Number of cuDNN's calls that add the bias and apply the ReLU."""
        return sum(count for product, count in self.products.items() if product.kind == "__cudnn$convBiasActivationForward")

    def plain(self) -> dict[str, Any]:
        """Return the report for JSON."""
        products = [[asdict(product), count] for product, count in self.products.items()]
        return vars(self) | {"products": products}

    @classmethod
    def from_plain(cls, fields: dict[str, Any]) -> Report:
        """Return the report that `plain` has written."""
        products = Counter(
            {Product(**product | {"operands": tuple(product["operands"])}): count for product, count in fields["products"]}
        )
        return cls(**fields | {"products": products})
