"""Bytes, operations and times of compiled programs, as they are read from text."""

from __future__ import annotations

import pytest

from tests.accelerators.hlo import Program
from tests.accelerators.roofline import PRODUCT_SHARE, RATES, least_seconds, peak_share

TEXT = """
HloModule program

%fused_slices (param_0.1: f32[8,100], param_1.1: f32[8,100]) -> f32[8,20] {
  %param_0.1 = f32[8,100]{1,0} parameter(0)
  %param_1.1 = f32[8,100]{1,0} parameter(1)
  %slice.1 = f32[8,10]{1,0} slice(%param_0.1), slice={[0:8], [0:10]}
  %slice.2 = f32[8,10]{1,0} slice(%param_1.1), slice={[0:8], [0:10]}
  ROOT %concatenate.1 = f32[8,20]{1,0} concatenate(%slice.1, %slice.2), dimensions={1}
}

%gemm (param_0.2: bf16[8,20], param_1.2: bf16[20,6]) -> bf16[8,6] {
  %param_0.2 = bf16[8,20]{1,0} parameter(0)
  %param_1.2 = bf16[20,6]{1,0} parameter(1)
  ROOT %dot.1 = bf16[8,6]{1,0} dot(%param_0.2, %param_1.2), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (x: f32[8,100], l: bf16[8,20], r: bf16[20,6], g: bf16[1,4,5,6], w: bf16[6,3,3,2]) -> f32[8,20] {
  %x = f32[8,100]{1,0} parameter(0)
  %l = bf16[8,20]{1,0} parameter(1)
  %r = bf16[20,6]{1,0} parameter(2)
  %g = bf16[1,4,5,6]{3,2,1,0} parameter(3)
  %w = bf16[6,3,3,2]{3,2,1,0} parameter(4)
  %tuple.1 = (f32[8,100]{1,0}, bf16[8,20]{1,0}) tuple(%x, %l)
  %alias.1 = f32[8,100]{1,0} get-tuple-element(%tuple.1), index=0
  %conv.1 = (bf16[1,8,10,2]{3,2,1,0}, u8[0]{0}) custom-call(%g, %w), dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %conv.2 = (bf16[1,4,5,6]{3,2,1,0}, u8[0]{0}) custom-call(%conv.1, %w), dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %product.1 = bf16[8,6]{1,0} fusion(%l, %r), kind=kCustom, calls=%gemm
  ROOT %slices.1 = f32[8,20]{1,0} fusion(%x, %alias.1), kind=kInput, calls=%fused_slices
}
"""  # noqa: E501
WEIGHTS = 6 * 3 * 3 * 2


@pytest.fixture(scope="module")
def program() -> Program:
    return Program(TEXT)


def test_a_buffer_counts_once_under_all_its_names_and_slices_as_what_is_read(program: Program) -> None:
    assert [kernel.name for kernel in program.kernels] == ["conv.1", "conv.2", "product.1", "slices.1"]
    slices = program.kernels[-1]
    assert program.bytes_of(slices) == 4 * 8 * (10 + 10 + 20)
    rest = sum(map(program.bytes_of, program.kernels[:-1]))
    assert program.touched_bytes == rest + program.bytes_of(slices)
    assert program.kernel_bytes == rest + 4 * 8 * (100 + 20)


def test_bytes_are_told_apart_by_kind(program: Program) -> None:
    kinds = program.bytes_by_kind
    assert kinds.keys() == {"convolution", "dot", "other"}
    assert kinds["dot"] == 2 * (8 * 20 + 20 * 6 + 8 * 6)
    assert sum(kinds.values()) == program.touched_bytes


def test_operations_are_counted_at_the_outputs_of_convolutions(program: Program) -> None:
    backward, forward, product, slices = map(program.flop_of, program.kernels)
    assert backward == forward == 2 * 4 * 5 * WEIGHTS
    assert product == 2 * 8 * 20 * 6
    assert slices == 0


def test_a_kernel_takes_the_longer_of_its_products_and_its_bytes(program: Program) -> None:
    rates = RATES["h200"]
    expected = sum(
        max(program.flop_of(kernel) / (PRODUCT_SHARE * rates.flops["bfloat16"]), program.bytes_of(kernel) / rates.bandwidth)
        for kernel in program.kernels
    )
    assert least_seconds(program, "h200", "bfloat16") == pytest.approx(expected)
    # All kernels here are bound by their bytes.
    assert expected == pytest.approx(program.touched_bytes / rates.bandwidth)
    assert peak_share(990e12, 2.0, "h200", "bfloat16") == 0.5
