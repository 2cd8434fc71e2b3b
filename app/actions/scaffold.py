"""A new action file from an OpenAPI document or a curl line: all five parts, with a sample that holds.

A `Draft` is what is known of the method; `add_answer` makes response attributes and the sample of an answer, `written` the file's text,
which has been read back and checked by then. Secrets of a curl line are kept in the draft for `ask`, and never written.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
import yaml
from pydantic import ValidationError

from .credentials import Credentials
from .curl import read_line
from .draft import BadSource, Draft, as_text, free, kind_of, snake
from .files import load_actions
from .guard import Guard, Origin
from .http import Http
from .method import ActionDef
from .openapi import read_operation
from .prepare import Prepared
from .samples import check_samples, request_of, sample_credentials
from .values import from_text

MAX_ATTRIBUTES: Final = 30
MAX_DEPTH: Final = 4
MAX_SAMPLE: Final = 20_000
_SECONDS: Final = 10.0


def from_openapi(file: Path, operation: str, connector: str, method: str = "") -> Draft:
    """The draft of one operation of an OpenAPI document; raises `BadSource`."""
    draft, answer = read_operation(file, operation, connector, snake(method or operation))
    return draft if answer is None else add_answer(draft, *answer)


def from_curl(line: str, connector: str, method: str = "") -> Draft:
    """The draft of what a curl line asks; raises `BadSource`."""
    return read_line(line, connector, method)


def add_answer(draft: Draft, status: int, body: str, certain: Container[str] | None = None) -> Draft:
    """The draft with response attributes and a sample from an answer; raises `BadSource` for one that is no success, or no JSON.

    Members named in `certain` (all that are not null, where it is not given) have to be there in every answer.
    """
    if not 200 <= status < 300:
        raise BadSource(f"the system answered HTTP {status}, of which no response attributes can be made")
    if len(body) > MAX_SAMPLE:
        raise BadSource(f"the answer has {len(body)} characters, too many for a sample: ask for less")
    document = _document(body) if body.strip() and status != 204 else None
    response: dict[str, dict[str, str]] = {}
    for path, value in _leaves(document, "", 0):
        if len(response) < MAX_ATTRIBUTES:
            response[free(path, response)] = _attribute(path, value, certain)
    return replace(draft, answered=True, status=status, body=body if document is not None else "", response=response)


async def ask(draft: Draft, systems: Mapping[str, Credentials] | None) -> tuple[int, str]:
    """Really ask, with the curl line's own secrets or those of the settings; status and body. Raises `ValueError` and `Failed`."""
    if systems is not None and draft.connector not in systems:
        raise BadSource(f"--call needs [systems.{draft.connector}] in the settings: {', '.join(draft.needs)}")
    access = Credentials(base_url=draft.base_url, **draft.secrets) if systems is None else systems[draft.connector]
    definition = _definition(draft)
    if definition.auth.oauth2:
        raise BadSource("--call cannot ask for OAuth2 tokens; write the file first, then use `callwright action test --live`")
    prepared = Prepared(definition, {draft.connector: access})
    guard = Guard([Origin(origin=str(origin), allow_private=True) for origin in prepared.origins])
    http = Http(guard)
    try:
        async with asyncio.timeout(_SECONDS):
            answer = await http.ask(prepared.request(_typed(draft)), errors_too=True)
        return answer.status, (answer.body or b"").decode()
    except TimeoutError:
        raise BadSource(f"no answer within {_SECONDS:g} s") from None
    except UnicodeDecodeError:
        raise BadSource("the answer is not text") from None
    finally:
        await http.close()
        await guard.resolver.close()


def written(draft: Draft) -> str:
    """The text of the action file, read back and checked; raises `ValueError`."""
    definition = _definition(draft)
    prepared = Prepared(definition, _sample_access(draft))
    line, body = request_of(prepared, _typed(draft))
    sample: dict[str, Any] = {"parameters": draft.values, "request": line}
    if body:
        sample["body"] = body.decode()
    sample["response"] = {"status": str(draft.status), "body": draft.body} if draft.answered else {"status": str(draft.status)}
    if draft.answered:
        found = prepared.read(_document(draft.body) if draft.body else None)
        sample["expect"] = {name: as_text(value) for name, value in found.items()}
    else:
        sample["fails"] = "status"
    parts = _parts(draft) | {"samples": {"first" if draft.answered else "down": sample}}
    text = yaml.dump(
        {"format": "1", "connector": draft.connector, "methods": {draft.method: parts}},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=130,
        default_flow_style=None,
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{draft.connector}.yaml").write_text(text, encoding="utf-8")
        problems = check_samples(load_actions(Path(folder)))
    if problems:
        raise BadSource("\n".join(problems))
    return text


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _document(body: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadSource("the answer is not JSON") from None


def _leaves(value: Any, path: str, depth: int) -> list[tuple[str, Any]]:
    """Path and value of everything that can be an attribute; of a list of objects its length and its first member."""
    if isinstance(value, dict) and value and depth < MAX_DEPTH:
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{path}.{_key(str(key))}".strip("."), depth + 1)]
    if isinstance(value, list) and value and isinstance(value[0], dict) and depth < MAX_DEPTH:
        return [(f"length({path or '@'})", len(value)), *_leaves(value[0], f"{path}[0]", depth + 1)]
    return [(path, value)] if path else []


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _attribute(path: str, value: Any, certain: Container[str] | None) -> dict[str, str]:
    """A path with its type; what may well be missing has a default, as has everything inside of something else."""
    if path.startswith("length("):
        inner = path[7:-1]
        return {"path": path if inner == "@" else f"length({inner} || `[]`)", "type": "integer"}
    kind = kind_of(value)
    if value is not None and re.fullmatch(r"\w+", path) and (certain is None or path in certain):
        return {"path": path, "type": kind}
    defaults = {"string": "", "boolean": "false", "number": "0", "integer": "0", "object": "{}"}
    return {"path": path, "type": kind, "default": defaults.get(kind, "[]")}


def _parts(draft: Draft) -> dict[str, Any]:
    parts: dict[str, Any] = {"request": draft.request, "parameters": draft.parameters, "response": draft.response, "auth": draft.auth}
    return parts


def _definition(draft: Draft) -> ActionDef:
    sample = {"parameters": draft.values, "request": "GET /", "response": {"status": "503"}, "fails": "status"}
    try:
        return ActionDef.model_validate({**_parts(draft), "name": f"{draft.connector}.{draft.method}", "samples": {"none": sample}})
    except ValidationError as error:
        raise BadSource("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))) from None


def _typed(draft: Draft) -> dict[str, Any]:
    return {name: from_text(text, draft.parameters[name]["type"]) for name, text in draft.values.items()}


def _sample_access(draft: Draft) -> dict[str, Credentials]:
    return sample_credentials({"draft": _definition(draft)}, "https://sample.invalid")
