"""XLA's compiled programs as text: instructions, and what of them costs time, memory or precision."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.+)$")
_ARRAY = re.compile(r"(?P<type>pred|token|[a-z]+\d+\w*)\[(?P<sides>[\d,]*)\]")
_BITS = re.compile(r"\d+")
#: Opcodes of instructions that name a value and do nothing.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
#: Opcodes that run other computations, instruction by instruction, as kernels of their own.
_CALLS = {"call", "while", "conditional", "async-start"}
_HOST = {"infeed", "outfeed", "send", "send-done", "recv", "recv-done"}
#: Targets of custom calls that move data between a device and its host.
_HOST_TARGETS = ("callback", "MoveToHost", "MoveToDevice", "annotate_device_placement")
#: XLA's number for the memory space of the host.
_HOST_SPACE = "S(5)"


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: Its name, without the percent sign.
        result: Type of its result, as text.
        opcode: Its operation.
        operands: Names of its operands; of a parameter, its number.
        attributes: All that follows the operands, as text.
    """

    name: str
    result: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str

    @property
    def target(self) -> str:
        """Name of the function that a custom call calls, else an empty string."""
        match = re.search(r'custom_call_target="([^"]+)"', self.attributes)
        return match[1] if match else ""

    @property
    def bytes(self) -> int:
        """Size of its result."""
        return sum(
            math.prod(map(int, filter(None, array["sides"].split(",")))) * _type_bytes(array["type"])
            for array in _ARRAY.finditer(self.result)
        )

    @property
    def touches_host(self) -> bool:
        """True if it moves data between the device and the host."""
        return (
            self.opcode in _HOST
            or any(word in self.target for word in _HOST_TARGETS)
            or (self.opcode.startswith(("copy", "parameter")) and _HOST_SPACE in self.result)
        )


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product, wherever in a program.

    Attributes:
        kind: `dot`, `convolution`, or the target of a library's call.
        operands: Number types of the two that are multiplied.
        result: Number type of the result.
        precision: XLA's precision of the two, such as `highest`, or the name of the algorithm that is asked for.
    """

    kind: str
    operands: tuple[str, str]
    result: str
    precision: str


class Program:
    """A compiled program, from its text."""

    def __init__(self, text: str) -> None:
        self._computations: dict[str, list[Instruction]] = {}
        self._entry = ""
        current: list[Instruction] = []
        for line in text.splitlines():
            if match := _COMPUTATION.match(line):
                current = self._computations.setdefault(match["name"], [])
                self._entry = match["name"] if match["entry"] else self._entry
            elif match := _INSTRUCTION.match(line):
                current.append(_instruction(match["name"], match["rest"]))

    @property
    def instructions(self) -> Iterator[Instruction]:
        """All instructions, those inside fusions included."""
        return (instruction for computation in self._computations.values() for instruction in computation)

    @cached_property
    def kernels(self) -> list[Instruction]:
        """Instructions that run as kernels, copies or library calls of their own."""
        return list(self._kernels_of(self._entry))

    @property
    def kernel_bytes(self) -> int:
        """Bytes that kernels read and write, each operand and result counted whole."""
        return sum(kernel.bytes + sum(map(self._size, self._buffers_of(kernel))) for kernel in self.kernels)

    @property
    def touched_bytes(self) -> int:
        """Bytes that kernels read and write; of an operand of which a fusion reads only slices, the slices count."""
        return sum(self.bytes_of(kernel) for kernel in self.kernels)

    @property
    def bytes_by_kind(self) -> dict[str, int]:
        """Bytes as `touched_bytes` counts them, of convolutions, matrix products, copies and all other kernels."""
        counts: Counter[str] = Counter()
        for kernel in self.kernels:
            counts[self._kind_of(kernel)] += self.bytes_of(kernel)
        return dict(counts)

    def _kind_of(self, kernel: Instruction) -> str:
        """Return `convolution`, `dot`, `copy` or `other`."""
        inner = [kernel, *self._computations.get(_called(kernel), [])]
        if any(one.opcode == "convolution" or one.target.startswith("__cudnn$conv") for one in inner):
            return "convolution"
        if any(one.opcode == "dot" for one in inner):
            return "dot"
        return "copy" if kernel.opcode.startswith("copy") or "transpose" in kernel.name else "other"

    def bytes_of(self, kernel: Instruction) -> int:
        """Return the bytes that a kernel reads and writes, as `touched_bytes` counts them."""
        reads: Counter[str] = Counter()
        for position, operand in enumerate(kernel.operands):
            reads[self._buffer(operand)] += self._read_bytes(kernel, position)
        return kernel.bytes + sum(min(count, self._size(name)) for name, count in reads.items())

    def flop_of(self, kernel: Instruction) -> int:
        """Return the operations of a kernel's convolution or matrix products; 0 if it has none."""
        inner = self._computations.get(_called(kernel), []) if kernel.opcode == "fusion" else [kernel]
        return sum(self._product_flop(instruction) for instruction in inner)

    def _product_flop(self, product: Instruction) -> int:
        operands = [self._by_name[name] for name in product.operands[:2] if name in self._by_name]
        if product.opcode == "dot":
            (contracted,) = re.findall(r"lhs_contracting_dims=\{(\d+)\}", product.attributes)
            return 2 * math.prod(_sides(product)) * _sides(operands[0])[int(contracted)]
        if not product.target.startswith("__cudnn$conv"):
            return 0
        # Every weight is used once at each position of the convolution's output.
        output = operands[0] if "BackwardInput" in product.target else product
        labels = re.search(r"dim_labels=(\w+)_\w+->(\w+)", product.attributes)
        assert labels is not None, product
        layout = labels[1] if output is not product else labels[2]
        positions = math.prod(side for side, axis in zip(_sides(output), layout, strict=True) if axis != "f")
        return 2 * positions * math.prod(_sides(operands[1]))

    def _buffers_of(self, kernel: Instruction) -> list[str]:
        """Return the names of the instructions whose results a kernel reads, each once."""
        return list(dict.fromkeys(map(self._buffer, kernel.operands)))

    def _buffer(self, name: str) -> str:
        """Return the instruction that fills the buffer which `name` is: aliases of it share the buffer."""
        while (alias := self._by_name.get(name)) is not None:
            source = self._by_name.get(alias.operands[0]) if alias.operands else None
            if source is None:
                break
            if alias.opcode == "bitcast":
                name = source.name
            elif alias.opcode == "get-tuple-element" and source.opcode == "tuple":
                name = source.operands[int(alias.attributes.split("index=")[1].split(",")[0])]
            else:
                break
        return name

    def _size(self, name: str) -> int:
        instruction = self._by_name.get(name)
        return 0 if instruction is None else instruction.bytes

    def _read_bytes(self, kernel: Instruction, position: int) -> int:
        """Return how many bytes of an operand a kernel reads, if each position of it is read once."""
        whole = self._size(kernel.operands[position])
        if kernel.opcode != "fusion":
            return whole
        inner = self._computations.get(_called(kernel), [])
        names = [one.name for one in inner if one.opcode == "parameter" and one.operands == (str(position),)]
        slices = 0
        while names:
            name = names.pop()
            for user in (one for one in inner if name in one.operands):
                if user.opcode == "bitcast":
                    names.append(user.name)
                elif user.opcode in ("slice", "dynamic-slice"):
                    slices += user.bytes
                else:
                    return whole
        return min(slices, whole)

    @cached_property
    def _by_name(self) -> dict[str, Instruction]:
        return {instruction.name: instruction for instruction in self.instructions}

    def count(self, word: str) -> int:
        """Return how many instructions have `word` as opcode or in the target of their custom call."""
        return sum(instruction.opcode == word or word in instruction.target for instruction in self.instructions)

    @property
    def products(self) -> list[Product]:
        """All convolutions and matrix products."""
        return [product for computation in self._computations.values() for product in _products(computation)]

    def _kernels_of(self, name: str) -> Iterator[Instruction]:
        for instruction in self._computations.get(name, []):
            if instruction.opcode in _CALLS:
                for inner in re.findall(r"%([\w.\-]+)", instruction.attributes):
                    yield from self._kernels_of(inner)
            elif instruction.opcode not in _FREE:
                yield instruction


def _products(computation: list[Instruction]) -> Iterator[Product]:
    by_name = {instruction.name: instruction for instruction in computation}
    for instruction in computation:
        is_library = instruction.target.startswith(("__cudnn$conv", "__cublas$"))
        if instruction.opcode not in ("dot", "convolution") and not is_library:
            continue
        left, right = (_number_type(by_name[operand].result) for operand in instruction.operands[:2])
        algorithm = re.search(r"algorithm=(\w+)", instruction.attributes)
        precisions = re.search(r'operand_precision"?[=:][{\[]([^}\]]*)[}\]]', instruction.attributes)
        # The third is that of a bias, which is added and not multiplied.
        words = precisions[1].replace('"', "").lower().split(",")[:2] if precisions else ["default"]
        yield Product(
            instruction.target or instruction.opcode,
            (left, right),
            _number_type(instruction.result),
            algorithm[1] if algorithm else "/".join(dict.fromkeys(words)),
        )


def _instruction(name: str, rest: str) -> Instruction:
    result, rest = _split(rest) if rest.startswith("(") else rest.split(" ", 1)
    opcode, rest = rest.strip().split("(", 1)
    operands, attributes = _split("(" + rest)
    names = re.findall(r"%([\w.\-]+)" if opcode != "parameter" else r"\d+", operands)
    return Instruction(name, result, opcode, tuple(names), attributes)


def _sides(instruction: Instruction) -> list[int]:
    """Return the sides of the first array of an instruction's result."""
    array = _ARRAY.search(instruction.result)
    assert array is not None, instruction.result
    return [int(side) for side in array["sides"].split(",") if side]


def _called(kernel: Instruction) -> str:
    """Return the name of the computation that a fusion computes."""
    match = re.search(r"calls=%([\w.\-]+)", kernel.attributes)
    return match[1] if match else ""


def _split(text: str) -> tuple[str, str]:
    """Return the text up to the bracket that closes the first, and the rest."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return text[: index + 1], text[index + 1 :]
    raise ValueError(f"a bracket stays open: {text[:80]}")


def _number_type(result: str) -> str:
    """Return the number type of the first array of a result."""
    array = _ARRAY.search(result)
    assert array is not None, result
    return array["type"]


def _type_bytes(name: str) -> int:
    bits = _BITS.search(name)
    return 1 if name == "pred" or bits is None else max(1, int(bits[0]) // 8)
