"""Reader of PyTorch's pickles as text: nothing is unpickled, imported, looked up or called.

A pickle is a program for a stack machine. Here its few operations that write containers, texts and numbers are followed
with containers, texts and numbers; a class that it names stays the text `module.Name`, and a call of it stays a `Call`. Any
other operation is refused. (`pickletools.genops` only splits the bytes into operations.)
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

#: Most operations of one pickle. That of an InceptionV3 has about 20,000.
_MAX_OPERATIONS = 1_000_000
#: Operations whose argument is pushed as it is.
_VALUES = (
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "BININT", "BININT1",
    "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES",
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()

#: Errors of damaged pickles, besides `ValueError`.
DAMAGED = (IndexError, KeyError, TypeError, UnicodeDecodeError, OverflowError, MemoryError, AttributeError)


@dataclass(frozen=True)
class Name:
    """Class or function that a pickle names; it is only text."""

    text: str


@dataclass(eq=False)
class Call:
    """Call that a pickle describes, and the items that it adds to the result; nothing is called."""

    function: Any
    arguments: Any
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Reference:
    """Object outside of the pickle, by the description that the pickle has of it."""

    description: Any


def read_pickle(content: BytesIO) -> Any:
    """Return the value that a pickle describes, in containers, texts, numbers and the classes of this module.

    Args:
        content: The file, at the pickle's first byte. Afterwards it is behind the pickle.

    Raises:
        ValueError: The pickle is damaged, or holds an operation that a table of arrays does not need.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            # Python's, of odd escapes in a text.
            warnings.simplefilter("ignore", DeprecationWarning)
            return _result(machine, content)
    except DAMAGED as error:
        raise ValueError(f"its pickle is damaged ({type(error).__name__})") from None


def _result(machine: _Machine, content: BytesIO) -> Any:
    """Have a machine follow a pickle to its end, and return what is left on its stack."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if count > _MAX_OPERATIONS:
            raise ValueError(f"its pickle has more than {_MAX_OPERATIONS:,} operations")
        if operation.name == "STOP":
            return machine.stack.pop()
        machine.follow(operation.name, argument)
    raise ValueError("its pickle has no end")


class _Machine:
    """Stack and memo of a pickle that is being followed."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def follow(self, operation: str, argument: Any) -> None:
        """Follow one operation."""
        stack = self.stack
        if operation in _VALUES:
            stack.append(argument)
        elif operation in _CONSTANTS:
            stack.append(_CONSTANTS[operation])
        elif operation in _TUPLES:
            stack[-_TUPLES[operation] :] = [tuple(stack[-_TUPLES[operation] :])]
        elif not (self._follow_memo(operation, argument) or self._follow_container(operation)):
            self._follow_object(operation, argument)

    def _follow_memo(self, operation: str, argument: Any) -> bool:
        """Follow an operation of the memo; return False if it is another."""
        match operation:
            case "PROTO" | "FRAME":
                pass
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._memo[int(argument)] = self.stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                self.stack.append(self._memo[int(argument)])
            case _:
                return False
        return True

    def _follow_container(self, operation: str) -> bool:
        """Follow an operation of mappings, lists and tuples; return False if it is another."""
        stack = self.stack
        match operation:
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "APPEND":
                stack[-2].append(stack[-1])
                stack.pop()
            case "APPENDS":
                items = self._since_mark()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _add_items(stack[-1], [key], [value])
            case "SETITEMS":
                items = self._since_mark()
                _add_items(stack[-1], items[::2], items[1::2])
            case _:
                return False
        return True

    def _follow_object(self, operation: str, argument: Any) -> None:
        """Follow an operation of objects; raise `ValueError` if it is another."""
        stack = self.stack
        match operation:
            case "GLOBAL":
                stack.append(Name(str(argument).replace(" ", ".")))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                # The text of nested containers could be endless.
                if not (isinstance(name, str) and isinstance(module, str)):
                    raise ValueError("its pickle names a class by other than text")
                stack.append(Name(f"{module}.{name}"))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(Call(function, arguments))
            case "BINPERSID":
                stack.append(Reference(stack.pop()))
            case "BUILD":
                # Attributes of an object, such as the versions of modules: not needed.
                stack.pop()
            case _:
                raise ValueError(f"its pickle holds {operation}, which a table of arrays does not need")

    def _since_mark(self) -> list[Any]:
        """Remove the values above the newest mark, and the mark; return the values."""
        position = len(self.stack) - 1
        while self.stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise ValueError("its pickle is damaged: a mark is missing")
        values = self.stack[position + 1 :]
        del self.stack[position:]
        return values


def _add_items(container: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
    """Add items to a mapping, or to those of the result of a call."""
    items = container.items if isinstance(container, Call) else container
    # Other keys are not needed, and to hash deeply nested ones would end the process.
    if not isinstance(items, dict) or not all(isinstance(key, str | int) for key in keys):
        raise ValueError("its pickle holds a mapping that is no table of arrays")
    items.update(zip(keys, values, strict=True))
