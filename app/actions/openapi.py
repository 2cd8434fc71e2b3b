"""One operation of an OpenAPI 3 document as the draft of an action, with the answer that its examples or schemas tell of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import yaml
from yarl import URL

from .draft import BadSource, Draft, kind_of, snake, templated

_VERBS: Final = ("get", "put", "post", "delete", "patch", "head")
_DEEPEST: Final = 8
_TEXTS: Final = {
    "date": "2026-01-05",
    "date-time": "2026-01-05T10:00:00Z",
    "email": "ada@example.com",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "uri": "https://example.com/",
}


def read_operation(file: Path, operation: str, connector: str, method: str) -> tuple[Draft, tuple[int, str, set[str]] | None]:
    """The draft of an operation; status, body and what is always there of its answer where the document tells. Raises `BadSource`."""
    document = _read(file)
    book = _Book(document)
    path, verb, found, shared = book.operation(operation)
    parameters: dict[str, dict[str, str]] = {}
    values: dict[str, str] = {}
    request: dict[str, Any] = {"kind": "rest", "method": verb.upper(), "url": "{{ base_url }}" + path}
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    for each in {(one.get("in"), one.get("name")): one for one in map(book.whole, [*shared, *found.get("parameters", [])])}.values():
        where, name = each.get("in"), str(each.get("name", ""))
        known = _parameter(book, each)
        if known is None or where not in ("path", "query", "header"):
            continue
        ours = snake(name)
        parameters[ours], value = known
        if value is not None:
            values[ours] = value
        if where == "path":
            request["url"] = request["url"].replace("{" + name + "}", f"{{{{ {ours} }}}}")
        else:
            (query if where == "query" else headers)[name] = f"{{{{ {ours} }}}}"
    request |= {key: value for key, value in (("query", query), ("headers", headers)) if value}
    body = book.example(_content(book.whole(found.get("requestBody") or {})))
    if body is not None:
        request["body"] = templated(body, parameters, values)
    auth, needs = _auth(book, found, connector)
    base_url = str((document.get("servers") or [{}])[0].get("url", "") or "https://system.example")
    origin = str(URL(base_url).origin()) if URL(base_url).absolute else "https://system.example"
    about = str(found.get("summary") or "")
    draft = Draft(connector, method, request, parameters, values, auth, origin, ("base_url", *needs), base_url, about)
    return draft, _answer(book, found)


class _Book:
    """The document, with its references followed."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def operation(self, name: str) -> tuple[str, str, dict[str, Any], list[Any]]:
        """Path, verb, operation and the path's own parameters."""
        known = []
        for path, item in (self.document.get("paths") or {}).items():
            for verb, operation in self.whole(item).items():
                if verb in _VERBS and isinstance(operation, dict):
                    known.append(str(operation.get("operationId", f"{verb} {path}")))
                    if known[-1] == name:
                        return str(path), verb, operation, list(item.get("parameters", []))
        raise BadSource(f"there is no operation {name!r}; there are: {', '.join(known) or 'none'}")

    def whole(self, part: Any) -> dict[str, Any]:
        """A part, or what it refers to."""
        for _ in range(_DEEPEST):
            if not isinstance(part, dict):
                return {}
            if "$ref" not in part:
                return part
            reference, part = str(part["$ref"]), self.document
            if not reference.startswith("#/"):
                raise BadSource(f"the reference {reference} leads to another file")
            for step in reference[2:].split("/"):
                step = step.replace("~1", "/").replace("~0", "~")
                part = part.get(step, {}) if isinstance(part, dict) else {}
        raise BadSource("references go round in circles")

    def example(self, media: Mapping[str, Any] | None) -> Any:
        """The example of a content, or one made of its schema; None where there is neither."""
        if not media:
            return None
        if "example" in media:
            return media["example"]
        for each in (media.get("examples") or {}).values():
            if "value" in self.whole(each):
                return self.whole(each)["value"]
        return self.made(media.get("schema"), 0) if media.get("schema") else None

    def made(self, schema: Any, depth: int) -> Any:
        """A value that a schema describes."""
        schema = self.whole(schema)
        for key in ("example", "default", "const"):
            if schema.get(key) is not None:
                return schema[key]
        for key in ("examples", "enum"):
            if isinstance(schema.get(key), list) and schema[key]:
                return schema[key][0]
        parts = [self.made(part, depth + 1) for part in schema.get("allOf", [])] if depth < _DEEPEST else []
        merged = {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}
        for key in ("oneOf", "anyOf"):
            if schema.get(key) and depth < _DEEPEST:
                return self.made(schema[key][0], depth + 1)
        kind = schema.get("type")
        kind = next((one for one in kind if one != "null"), None) if isinstance(kind, list) else kind
        if kind == "object" or "properties" in schema or merged:
            deeper = {} if depth >= _DEEPEST else schema.get("properties", {})
            return {**merged, **{name: self.made(part, depth + 1) for name, part in deeper.items()}}
        if kind == "array":
            return [] if depth >= _DEEPEST else [self.made(schema.get("items", {}), depth + 1)]
        return {"integer": 1, "number": 1.5, "boolean": True}.get(str(kind), _TEXTS.get(str(schema.get("format")), "sample"))

    def certain(self, schema: Any) -> set[str]:
        """The members of an answer that are always there and never null."""
        schema = self.whole(schema)
        properties = {name: self.whole(part) for name, part in schema.get("properties", {}).items()}
        nullable = {name for name, part in properties.items() if _may_be_null(part) or part.get("nullable")}
        inherited = [self.certain(part) for part in schema.get("allOf", [])]
        return (set(schema.get("required", [])) & set(properties) - nullable).union(*inherited)


def _may_be_null(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    choices = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    return (
        kind == "null" or (isinstance(kind, list) and "null" in kind) or any(_may_be_null(one) for one in choices if isinstance(one, dict))
    )


def _read(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    try:
        document = orjson.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (yaml.YAMLError, orjson.JSONDecodeError):
        raise BadSource(f"{file} is neither JSON nor YAML") from None
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise BadSource(f"{file}: expected an OpenAPI document of version 3")
    return document


def _parameter(book: _Book, part: Mapping[str, Any]) -> tuple[dict[str, str], str | None] | None:
    """A parameter and its sample value; None for one that can be left out and has no value of its own."""
    schema = book.whole(part.get("schema"))
    value = part["example"] if "example" in part else book.made(schema, 0)
    kind, required = kind_of(value), bool(part.get("required"))
    if kind == "object" or kind.startswith("list"):
        kind, value = "string", ",".join(map(str, value)) if isinstance(value, list) else "sample"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    about = {"description": str(part["description"])[:200]} if part.get("description") else {}
    if required:
        return {"type": kind, **about}, text
    if kind == "string":
        return {"type": kind, "required": "false", "default": "", **about}, text if "example" in part else None
    if "default" in schema:
        return {"type": kind, "required": "false", "default": text, **about}, None
    return None


def _content(part: Mapping[str, Any]) -> Mapping[str, Any] | None:
    contents = part.get("content") or {}
    return next((media for kind, media in contents.items() if "json" in kind), None)


def _answer(book: _Book, operation: Mapping[str, Any]) -> tuple[int, str, set[str]] | None:
    for code, part in sorted((str(code), part) for code, part in (operation.get("responses") or {}).items()):
        if code.startswith("2"):
            content = _content(book.whole(part))
            example = book.example(content)
            status = int(code) if code.isdecimal() else 200
            body = "" if example is None else orjson.dumps(example, default=str).decode()
            return status, body, book.certain((content or {}).get("schema"))
    return None


def _auth(book: _Book, operation: Mapping[str, Any], connector: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The first scheme that is asked for and that we know."""
    schemes = (book.document.get("components") or {}).get("securitySchemes") or {}
    for choice in operation.get("security", book.document.get("security", [])) or []:
        for name in choice:
            scheme = book.whole(schemes.get(name))
            kind, flows = scheme.get("type"), scheme.get("flows") or {}
            if kind == "http" and str(scheme.get("scheme")).lower() in ("bearer", "basic"):
                chosen = str(scheme["scheme"]).lower()
                return {"scheme": chosen, "credentials": connector}, ("token",) if chosen == "bearer" else ("username", "password")
            if kind == "apiKey" and scheme.get("in") in ("header", "query"):
                return {"scheme": "api_key", "credentials": connector, "in": scheme["in"], "name": scheme["name"]}, ("api_key",)
            if kind == "oauth2" and "clientCredentials" in flows:
                flow = flows["clientCredentials"]
                auth = {"scheme": "oauth2_client", "credentials": connector, "token_url": flow.get("tokenUrl", "")}
                return auth | ({"scope": " ".join(choice[name])} if choice[name] else {}), ("client_id", "client_secret")
            if kind in ("oauth2", "openIdConnect"):
                return {"scheme": "bearer", "credentials": connector}, ("token",)
    return {"scheme": "none", "credentials": connector}, ()
