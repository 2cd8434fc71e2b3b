"""The OpenAPI 3.1 document, made from the table of operations and the models that check the input."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from crm import models
from crm.api import KEY_HEADER, PREFIX, Operation, operations
from crm.web import TITLES

_REFERENCES = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"\{(\w+):((?:[^{}]|\{[^{}]*\})+)\}")
_REASONS = dict(TITLES.values())
_REASONS[422] = "The input does not fit, or the key of an earlier request came with another body"


def document(base_url: str, version: str) -> dict[str, Any]:
    """Return the document for the service at `base_url`."""
    table = operations()
    refs, schemas = _schemas(table)
    paths: dict[str, dict[str, Any]] = {}
    for operation in table:
        path = PREFIX + _PATH_PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _describe(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Callwright reference CRM",
            "version": version,
            "description": "Contacts, accounts, orders, cases, custom objects and activities.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base_url}],
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}, "basic": {"type": "http", "scheme": "basic"}},
        },
    }


def _schemas(table: list[Operation]) -> tuple[dict[str, str], dict[str, Any]]:
    wanted: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [(models.ProblemDetails, "serialization")]
    for operation in table:
        wanted.append((operation.answer, "serialization"))
        wanted.extend((model, "validation") for model in (operation.body,) if model is not None)
    unique = list({(model.__name__, mode): (model, mode) for model, mode in wanted}.values())
    mapping, definitions = models_json_schema(unique, ref_template=_REFERENCES)
    return {model.__name__: reference["$ref"] for (model, _), reference in mapping.items()}, definitions["$defs"]


def _describe(operation: Operation, refs: dict[str, str]) -> dict[str, Any]:
    noun = re.sub(r"\W+", "_", _PATH_PARAMETER.sub(r"\1", operation.path)).strip("_")
    success = {"description": "Done", "content": {"application/json": {"schema": {"$ref": refs[operation.answer.__name__]}}}}
    problem = {"application/problem+json": {"schema": {"$ref": refs["ProblemDetails"]}}}
    described: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}_{noun}",
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_header_parameters(operation)],
        "responses": {
            **{str(status): success for status in operation.statuses},
            **{str(status): {"description": _REASONS[status], "content": problem} for status in operation.problems},
        },
    }
    if operation.body is not None:
        schema = {"$ref": refs[operation.body.__name__]}
        described["requestBody"] = {"required": not operation.body_optional, "content": {"application/json": {"schema": schema}}}
    return described


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{pattern}$"}}
        for name, pattern in _PATH_PARAMETER.findall(operation.path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema()
    found = []
    for name, described in schema["properties"].items():
        if name == "fields":
            text = "Compares custom fields: write `fields.<name>=<value>`"
            found.append({"name": "fields", "in": "query", "description": text, "style": "form", "explode": True, "schema": described})
        else:
            found.append({"name": name, "in": "query", "schema": described})
    return found


def _header_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.method != "POST":
        return []
    text = "The same key with the same body gives the same record"
    return [{"name": KEY_HEADER, "in": "header", "description": text, "schema": {"type": "string", "minLength": 1, "maxLength": 200}}]
