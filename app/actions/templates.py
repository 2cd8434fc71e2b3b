"""Templates of requests: compiled once, filled with values that are never templates themselves.

Only `{{ expressions }}` over the declared parameters and settings (`settings.name`) exist; there are no blocks, so no loops. In an
address each value is percent-encoded, and one that could move to another path (empty, `.`, `..`) is refused. A body is a YAML mapping
whose leaves are templates: a leaf that is one single expression keeps the type of its value, so JSON is never put together from text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote
from xml.sax.saxutils import escape

from jinja2 import StrictUndefined, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .filters import FILTERS, NotFit

Values: TypeAlias = Mapping[str, Any]
Text: TypeAlias = Callable[[Values], str]
Maker: TypeAlias = Callable[[Values], Any]


class BadTemplate(ValueError):
    """A template in a file that cannot be used."""


class BadValue(ValueError):
    """A value that cannot stand where the template puts it; the message names no value."""


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise BadValue("a list, an object or nothing cannot stand in a text")


def _encoded(value: Any) -> str:
    text = _plain(value)
    if text in ("", ".", ".."):
        raise BadValue("an empty value, `.` or `..` cannot stand in an address")
    return quote(text, safe="")


def _escaped(value: Any) -> str:
    text = _plain(value)
    if _NOT_XML.search(text):
        raise BadValue("a control character cannot stand in XML")
    return escape(text, {'"': "&quot;", "'": "&apos;"})


_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_TEXTS = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_plain, keep_trailing_newline=True)
_ADDRESSES = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_encoded)
_XML = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_escaped, keep_trailing_newline=True)
_TEXTS.globals.clear()
_XML.globals.clear()
_ADDRESSES.globals.clear()
_TEXTS.filters.update(FILTERS)
_ADDRESSES.filters.update(FILTERS)
_XML.filters.update(FILTERS)


def text(source: str, names: set[str]) -> Text:
    """A text template over `names`; filling it raises `BadValue`."""
    return _compile(source, names, _TEXTS)


def address(source: str, names: set[str]) -> Text:
    """A template of an address: the same, with each value percent-encoded."""
    return _compile(source, names, _ADDRESSES)


def xml(source: str, names: set[str]) -> Text:
    """A template of an XML text: the same, with each value escaped."""
    return _compile(source, names, _XML)


def body(source: Any, names: set[str]) -> Maker:
    """A template of a JSON body: mappings and lists whose leaves are templates."""
    if isinstance(source, dict):
        members = [(key, body(value, names)) for key, value in source.items()]
        return lambda values: {key: make(values) for key, make in members}
    if isinstance(source, list):
        items = [body(value, names) for value in source]
        return lambda values: [make(values) for make in items]
    tree = _parse(source, names, _TEXTS)
    if len(tree) == 1 and not isinstance(tree[0], nodes.TemplateData):
        expression = _TEXTS.compile_expression(source.strip()[2:-2], undefined_to_none=False)
        return _guarded(lambda values: expression(values))
    return _compile(source, names, _TEXTS)


def names_of(source: str) -> set[str]:
    """The names that a template uses; settings as `settings.name`."""
    tree = _TEXTS.parse(source)
    return (meta.find_undeclared_variables(tree) - {"settings"}) | _settings(tree)


def _parse(source: str, names: set[str], environment: ImmutableSandboxedEnvironment) -> list[nodes.Expr]:
    """The parts of a template that has nothing but text and expressions over `names`."""
    try:
        tree = environment.parse(source)
    except TemplateError as error:
        raise BadTemplate(f"not a template: {error.message}") from error
    if not all(isinstance(part, nodes.Output) for part in tree.body):
        raise BadTemplate("only {{ expressions }} may stand in a template, no {% blocks %}")
    unknown = sorted(meta.find_undeclared_variables(tree) - names - {"settings"}) + sorted(_settings(tree) - names)
    if unknown:
        kind = "setting" if unknown[0].startswith("settings") else "parameter"
        raise BadTemplate(f"{unknown[0]!r} is not a declared {kind}; there are: {', '.join(sorted(names)) or 'none'}")
    return [part for output in tree.body if isinstance(output, nodes.Output) for part in output.nodes]


def _settings(tree: nodes.Template) -> set[str]:
    """What a template uses of the settings: `settings.name`, or `settings` alone where it uses them in any other way."""
    used = {id(part.node): f"settings.{part.attr}" for part in tree.find_all(nodes.Getattr)}
    return {used.get(id(part), "settings") for part in tree.find_all(nodes.Name) if part.name == "settings"}


def _compile(source: str, names: set[str], environment: ImmutableSandboxedEnvironment) -> Text:
    parts = _parse(source, names, environment)
    if all(isinstance(part, nodes.TemplateData) for part in parts):
        return lambda values: source
    return _guarded(environment.from_string(source).render)


def _guarded(make: Callable[[Values], Any]) -> Maker:
    def fill(values: Values) -> Any:
        try:
            return make(values)
        except BadValue:
            raise
        except NotFit as error:
            raise BadValue(str(error)) from error
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise BadValue(f"the template failed with {type(error).__name__}") from error

    return fill
