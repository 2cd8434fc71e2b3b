"""JSON Schemas of the files that people write, for their editors: made from the models that the files are read by.

Files are read with every scalar a string, so that where the models want text, a number without quotes is right as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from app.core.flow import program
from app.core.flow.program import Program, Step
from app.publish.centre import CentreFile
from app.publish.flowfile import FILLED_IN
from app.publish.shared import NAMED

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXT: dict[str, Any] = {"type": ["string", "number", "boolean"]}


def flow_schema() -> dict[str, Any]:
    """What a file under `flows` looks like."""
    schema = schema_of(Program, "A flow of Callwright")
    for key in FILLED_IN:
        schema["properties"].pop(key, None)
    phrases = [TEXT, {"type": "array", "items": TEXT}]
    parts = schema["$defs"]
    if "Prompt" in parts:
        phrases.append({"type": "object", "additionalProperties": {"anyOf": list(phrases)}})
    if "Calendar" in parts:
        for key in ("open", "special"):
            parts["Calendar"]["properties"][key]["additionalProperties"] = {"anyOf": phrases[:2]}
    schema["properties"]["prompts"] = {"type": "object", "additionalProperties": {"anyOf": phrases}}
    if "Choice" in parts:
        choices = parts["Menu"]["properties"]["choices"]
        choices["patternProperties"] = {key: {"anyOf": [{"type": "string"}, value]} for key, value in choices["patternProperties"].items()}
    subflow = {"type": "object", **_subflow(schema), "description": "Steps that are run by the name that they have here."}
    schema["properties"]["subflows"] = {"type": "object", "additionalProperties": subflow}
    for name, part in parts.items():
        kind = getattr(program, name, None)
        if isinstance(kind, type) and issubclass(kind, Step) and name != "Subflow":
            _with_exits(part, kind)
    return schema


def subflow_schema() -> dict[str, Any]:
    """What a file under `subflows` looks like."""
    flow = flow_schema()
    return {
        "$schema": DIALECT,
        "title": "A subflow that flows of Callwright share",
        "type": "object",
        **_subflow(flow, *NAMED),
        "$defs": flow["$defs"],
    }


def _subflow(flow: Mapping[str, Any], *more: str) -> dict[str, Any]:
    """What a subflow has, and what else this one may have of the flow's own."""
    own = {"start": TEXT, "exits": {"type": "array", "items": TEXT}, "steps": flow["properties"]["steps"]}
    return {
        "properties": {**own, **{name: flow["properties"][name] for name in more}},
        "required": list(own),
        "additionalProperties": False,
    }


def centre_schema() -> dict[str, Any]:
    """What `centre.yaml` looks like."""
    return schema_of(CentreFile, "The queues and agents of a call centre")


def file_of_methods(connector: type[BaseModel], method: type[BaseModel]) -> dict[str, Any]:
    """What a file under `actions` looks like: a connector whose methods are each read by a model of their own."""
    schema, inner = schema_of(connector, "A connector of Callwright"), schema_of(method, "")
    schema.setdefault("$defs", {}).update(inner.pop("$defs", {}))
    for key in ("$schema", "title"):
        inner.pop(key, None)
    inner["properties"].pop("settings", None)
    schema["$defs"]["Method"] = inner
    schema["properties"]["methods"] = {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/Method"}}
    return schema


def schema_of(model: type[BaseModel], title: str) -> dict[str, Any]:
    """A model's schema in the terms of a YAML file."""
    schema = cast(dict[str, Any], _as_written(model.model_json_schema(mode="validation")))
    return {"$schema": DIALECT, **schema, "title": title}


def _with_exits(part: dict[str, Any], kind: type[Step]) -> None:
    """Name the exits that a step of this kind has to give; a kind that reckons them from its other keys may have more."""
    fixed = kind.exit_names is Step.exit_names
    exits: dict[str, Any] = {"type": "object", "description": "For each way out, the step that follows."}
    exits["properties"] = {name: {"type": "string"} for name in kind.EXITS}
    exits["required"] = list(kind.EXITS)
    exits["additionalProperties"] = False if fixed else {"type": "string"}
    part["properties"]["exits"] = exits
    part["required"] = [*part.get("required", []), *(["exits"] if kind.EXITS else [])]


def _as_written(node: Any, named: bool = False) -> Any:
    """A schema without what only programs need. `named`: the keys of `node` are names, not words of the schema."""
    if isinstance(node, list):
        return [_as_written(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _as_written(value, not named and key in ("properties", "$defs", "patternProperties")) for key, value in node.items()}
    if named:
        return out
    out.pop("title", None)
    out.pop("discriminator", None)
    if out.get("default", "") is None:
        del out["default"]
    choices = [choice for choice in out.get("anyOf", []) if choice != {"type": "null"}]
    if "anyOf" in out:
        out["anyOf"] = choices
        if len(choices) == 1:
            out.update(out.pop("anyOf")[0])
    if "patternProperties" in out:
        out.setdefault("additionalProperties", False)
    if out.get("type") == "string":
        return _text(out)
    return out


def _text(node: dict[str, Any]) -> dict[str, Any]:
    """A text as YAML may have it: `1` for "1"."""
    words = [node["const"]] if "const" in node else node.get("enum")
    if words is None:
        return {**node, **TEXT}
    numbers = [int(word) for word in words if word.isdecimal()]
    if numbers:
        return {"enum": [*words, *numbers], **{key: node[key] for key in ("description", "default") if key in node}}
    return node
