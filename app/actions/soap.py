"""SOAP: envelopes read into plain dicts, by a parser that takes no document types, no entities, and nothing deep.

An element without attributes and children is its text; any other is a dict of its children, its attributes (`@name`) and its text
(`#text`). Namespaces are dropped, a child that comes more than once is a list, `xsi:nil` is nothing. A Fault is a failure with the
fault's code alone, since its text may repeat what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any, Final
from xml.parsers import expat

from app.core.events import Json

from .extract import MAX_DEPTH, Malformed
from .failures import Failed

_NIL: Final = "http://www.w3.org/2001/XMLSchema-instance nil"
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance "
_ENVELOPES: Final = ("http://schemas.xmlsoap.org/soap/envelope/ Envelope", "http://www.w3.org/2003/05/soap-envelope Envelope")
_CODE: Final = re.compile(r"^(?:[\w.-]+:)?([\w.-]{1,60})$")


class Element:
    """One element while it is read."""

    __slots__ = ("attributes", "children", "tag", "text")

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Element] = []
        self.text: list[str] = []

    @property
    def name(self) -> str:
        """The name without its namespace."""
        return self.tag.rpartition(" ")[2]


def tree(body: bytes) -> Element:
    """The document element of an XML text; raises `Malformed`."""
    root = Element("", {})
    above = [root]

    def begin(tag: str, attributes: dict[str, str]) -> None:
        if len(above) > MAX_DEPTH:
            raise Malformed(f"the body is nested more than {MAX_DEPTH} deep")
        element = Element(tag, attributes)
        above[-1].children.append(element)
        above.append(element)

    def refuse(*_: Any) -> None:
        raise Malformed("the body declares a document type, which is not read")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda tag: above.pop()
    parser.CharacterDataHandler = lambda text: above[-1].text.append(text)
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, Malformed):
            raise
        line = f" at line {error.lineno}" if isinstance(error, expat.ExpatError) else ""
        raise Malformed(f"the body is not XML{line}") from error
    return root.children[0]


def content(body: bytes, lists: Container[str] = ()) -> Json:
    """What the first element of the Body holds; raises `Malformed`, and `Failed` for a Fault."""
    envelope = tree(body)
    if envelope.tag not in _ENVELOPES:
        raise Malformed("the body is not a SOAP envelope")
    for part in envelope.children:
        if part.name == "Body":
            if not part.children:
                return {}
            if part.children[0].name == "Fault":
                raise _fault(part.children[0])
            return _plain(part.children[0], lists)
    raise Malformed("the SOAP envelope has no Body")


def _plain(element: Element, lists: Container[str]) -> Json:
    if element.attributes.get(_NIL) in ("true", "1"):
        return None
    text = "".join(element.text)
    found: dict[str, Any] = {f"@{name}": value for name, value in element.attributes.items() if not name.startswith(_XSI)}
    for child in element.children:
        value = _plain(child, lists)
        if child.name not in found:
            found[child.name] = [value] if child.name in lists else value
        elif isinstance(found[child.name], list):
            found[child.name].append(value)
        else:
            found[child.name] = [found[child.name], value]
    if not found:
        return text.strip()
    return found | ({"#text": text.strip()} if text.strip() else {})


def _fault(fault: Element) -> Failed:
    """The code of SOAP 1.1 (`faultcode`) or 1.2 (`Code/Value`); the sender's mistake does not count against the system."""
    code = ""
    for part in fault.children:
        found = part if part.name == "faultcode" else next((c for c in part.children if part.name == "Code" and c.name == "Value"), None)
        if found is not None:
            match = _CODE.match("".join(found.text).strip())
            code = match[1] if match else ""
    return Failed("fault", f"SOAP fault {code}".rstrip(), system_at_fault=code.partition(".")[0] not in ("Client", "Sender"))
