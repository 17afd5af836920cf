"""Reader of the description in an XMP packet (ISO 16684-1).

It builds no tree and accepts no entity definitions, so a hostile packet takes little memory.
"""

from __future__ import annotations

from xml.etree import ElementTree

_DUBLIN_CORE, _RDF = "http://purl.org/dc/elements/1.1/", "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
#: The two elements around the one that holds the text, from the outside in; that one may have any name.
_PARENTS = (f"{{{_DUBLIN_CORE}}}description", f"{{{_RDF}}}Alt")
#: Greatest depth of elements, and largest packet, bytes: XMP needs a depth of about ten, and settings a few thousand bytes.
MAX_DEPTH, MAX_BYTES = 64, 16_000_000


def read_description(packet: bytes) -> str | None:
    """Return the text of the first `dc:description`; None if there is none.

    Raises:
        ValueError: the packet is no XML, or is longer, deeper or more complex than XMP needs to be.
    """
    if len(packet) > MAX_BYTES:
        raise ValueError(f"the packet has more than {MAX_BYTES} bytes")
    content = packet.rstrip(b"\0")
    if not content:
        return None
    target = _Description()
    parser = ElementTree.XMLParser(target=target)
    try:
        parser.feed(content)
        parser.close()
    except ElementTree.ParseError as error:
        raise ValueError(f"the packet is no XML: {error}") from None
    return target.text


class _Description:
    """Target of the XML parser that keeps the text of the description."""

    def __init__(self) -> None:
        self.text: str | None = None
        self._open: list[str] = []
        self._parts: list[str] | None = None

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        """Begin an element."""
        self._open.append(name)
        if len(self._open) > MAX_DEPTH:
            raise ValueError(f"the packet has elements in more than {MAX_DEPTH} others")
        if self.text is None and tuple(self._open[-3:-1]) == _PARENTS:
            self._parts = []

    def data(self, text: str) -> None:
        """Add text, if it is of the description."""
        if self._parts is not None:
            self._parts.append(text)

    def end(self, _name: str) -> None:
        """End an element, and the text of the description with it."""
        if self._parts is not None:
            self.text, self._parts = "".join(self._parts), None
        self._open.pop()

    def doctype(self, _name: str, _public: str | None, _system: str | None) -> None:
        """Refuse a document type: it could define entities that grow without bound."""
        raise ValueError("the packet defines a document type")

    def close(self) -> None:
        """Do nothing: the text is complete."""
