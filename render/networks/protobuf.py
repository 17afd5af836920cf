"""Bounded reader of protobuf's wire format, shared by the readers of Caffe, ONNX and TensorFlow files.

No schema and no generated code is needed: a reader asks for the fields of a message by number. Nothing is copied, and a
length is compared with the bytes that are there before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: Wire types.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: Most fields that a file may have. The published files have about 3,000; each array is one field.
MAX_FIELDS = 500_000
#: Largest value of a varint, and its largest signed value.
_VARINT_RANGE, _SIGNED_RANGE = 1 << 64, 1 << 63

#: Errors that readers of damaged messages raise.
DAMAGED = (IndexError, ValueError, OverflowError)


class Budget:
    """Number of fields that may still be read from a file; it bounds the time that a hostile file takes."""

    def __init__(self, fields: int = MAX_FIELDS) -> None:
        """Store the number of fields."""
        self._limit = self._left = fields

    def spend(self) -> None:
        """Take one field; raise `ValueError` if there is none left."""
        if self._left <= 0:
            raise ValueError(f"it has more than {self._limit:,} fields")
        self._left -= 1


def fields(message: memoryview, budget: Budget) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of a message: the number, and an unsigned integer or the field's bytes.

    Args:
        message: The message.
        budget: Every field spends one of it.

    Raises:
        ValueError: The message is damaged, or the budget is spent.
        IndexError: It ends early.
    """
    offset = 0
    while offset < len(message):
        budget.spend()
        key, offset = _varint(message, offset)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, offset = _varint(message, offset)
            yield number, value
            continue
        if wire == _BYTES:
            length, offset = _varint(message, offset)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire} at byte {offset}")
        if offset + length > len(message):
            raise ValueError(f"a field of {length} bytes at byte {offset} goes past the end")
        yield number, message[offset : offset + length]
        offset += length


def messages(message: memoryview, number: int, budget: Budget) -> Iterator[memoryview]:
    """Yield the fields of one number that hold bytes: inner messages, texts or packed numbers."""
    for field, value in fields(message, budget):
        if field == number and isinstance(value, memoryview):
            yield value


def integers(value: int | memoryview, budget: Budget) -> Iterator[int]:
    """Yield the unsigned integers of a repeated field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    offset = 0
    while offset < len(value):
        budget.spend()
        number, offset = _varint(value, offset)
        yield number


def signed(value: int) -> int:
    """Return a varint as the signed 64-bit integer that it stands for."""
    return value - _VARINT_RANGE if value >= _SIGNED_RANGE else value


def text(value: int | memoryview) -> str:
    """Return a field's bytes as text.

    Raises:
        ValueError: They are no UTF-8, or the field is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number stands where a text should")
    return bytes(value).decode()


def joined(parts: list[NDArray], dtype: str) -> NDArray:
    """Return the parts of a repeated field of numbers as one array; an empty one of `dtype` for none."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    """Return the variable-length integer at an offset, and the offset after it."""
    value = shift = 0
    while True:
        byte = message[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, offset
        shift += 7
        if shift > 63:
            raise ValueError(f"a varint at byte {offset} is too long")
