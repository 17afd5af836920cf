"""Roofline of compiled programs: the least time of each kernel by a device's nominal rates, without running any."""

from __future__ import annotations

from typing import NamedTuple

from tests.accelerators.hlo import Program


class Rates(NamedTuple):
    """Rates of a device.

    Attributes:
        flops: Peak of dense products by precision of the network, FLOP/s, from the vendor's data sheet.
        bandwidth: Bytes that copies reach per second, nine tenths of the data sheet's bandwidth.
    """

    flops: dict[str, float]
    bandwidth: float


#: Share of the peak that large matrix products reach: 790 of 990 TFLOP/s in bfloat16 on an H200.
PRODUCT_SHARE = 0.8
#: From the data sheets of H200 SXM, A100 SXM 80 GB and TPU v5e. A TPU multiplies float32 in six passes of bfloat16, and in
#: three with `tensorfloat32`.
RATES = {
    "h200": Rates({"bfloat16": 990e12, "tensorfloat32": 495e12, "float32": 67e12}, 4.3e12),
    "a100": Rates({"bfloat16": 312e12, "tensorfloat32": 156e12, "float32": 19.5e12}, 1.8e12),
    "v5e": Rates({"bfloat16": 197e12, "tensorfloat32": 197e12 / 3, "float32": 197e12 / 6}, 0.74e12),
}


def least_seconds(program: Program, device: str, precision: str) -> float:
    """Return the time of a program if each of its kernels takes the longer of its products and its bytes.

    Starts of kernels, narrow channels that fill matrix units partly, and caches are not in it.

    Args:
        program: The compiled program.
        device: A name in `RATES`.
        precision: Precision of the network.
    """
    rates = RATES[device]
    products = PRODUCT_SHARE * rates.flops[precision]
    return sum(
        max(program.flop_of(kernel) / products, program.bytes_of(kernel) / rates.bandwidth) for kernel in program.kernels
    )


def peak_share(flop: float, seconds: float, device: str, precision: str) -> float:
    """Return which share of the device's peak `flop` operations in `seconds` are."""
    return flop / seconds / RATES[device].flops[precision]
