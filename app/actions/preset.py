"""Presets: connectors for well-known systems that ship with us. A project's action file names one and adds what is its own.

    preset: salesforce                     a file of app/actions/presets
    connector: crm                         the name that flows use; the preset's own unless given
    credentials: salesforce                which of the settings' systems to ask; the preset's name unless given
    settings: {site: https://acme.my.salesforce.com}      what the preset lists under its `settings`
    fields:                                more attributes of the contact, from fields of one's own
      credit: {field: Credit__c, type: number, default: "0"}
      premium: {field: Tier__c, equals: Gold}
    auth: oauth2_client                    another of the preset's ways to prove who asks, or a mapping as in any action file
    methods: {...}                         methods of one's own, or other ones under the preset's names

In a preset `${name}` stands for a setting or for `${credentials}`; `${fields}` for the names of the fields, each with a comma before it,
`${quoted_fields}` for the same in double quotes, and a list item `"${fields}"` for as many items as there are fields: those that are not
`asked` for anyway. Its own `fields` tell in the responses of which methods a field is found, and where. The expanded file is an ordinary
connector and is checked like one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.yamlfile import read_yaml

from .values import TYPES

PRESETS: Final = Path(__file__).with_name("presets")
_EMPTY: Final = {"string": "", "boolean": "false", "number": "0", "integer": "0", "object": "{}"}
_PLACEHOLDER: Final = re.compile(r"\$\{([a-z_]+)\}")

Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Part(BaseModel):
    """Nothing but the declared keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Field(Part):
    """One more attribute of a contact: the field's name in the system, its type, and what it is where the field is empty.

    With `equals` it says whether the field has that value.
    """

    field: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,99}$")]
    type: Literal[TYPES] = "string"  # type: ignore[valid-type]
    default: str | None = None
    equals: Annotated[str, StringConstraints(pattern=r"^[^'\\]{1,100}$")] | None = None

    def output(self, path: str) -> dict[str, str]:
        """The response attribute, from where the preset finds fields."""
        found = path.replace("${field}", self.field)
        if self.equals is not None:
            return {"path": f"({found}) == '{self.equals}'", "type": "boolean", "default": "false"}
        return {"path": found, "type": self.type, "default": _EMPTY.get(self.type, "[]") if self.default is None else self.default}


class Include(Part):
    """What a project's file says."""

    format: str = "1"
    preset: str
    connector: Word | None = None
    description: str | None = None
    credentials: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,40}$")] | None = None
    settings: dict[Word, str] = {}
    fields: dict[Word, Field] = {}
    auth: str | dict[str, Any] | None = None
    methods: dict[Word, dict[str, Any]] = {}


class Setting(Part):
    """One setting of a preset. Without a default a project has to give it; `pattern` is what it must look like from end to end."""

    description: str
    pattern: str = r"[^${}'\"\\]*"
    default: str | None = None


class Preset(Part):
    """A file of app/actions/presets. `source` names the documents that its requests and samples follow.

    `auth` has the ways to prove who asks, the usual one first; `fields` where a project's own fields are found, by method; `asked` the
    fields that requests ask for anyway.
    """

    preset: Word
    description: str
    source: list[str]
    settings: dict[Word, Setting]
    auth: Annotated[dict[Word, dict[str, Any]], MinLen(1)]
    fields: dict[Word, str]
    asked: list[str] = []
    methods: dict[Word, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Filling:
    """What placeholders stand for, and the fields that a request has to ask for beside its own."""

    known: Mapping[str, str]
    fields: list[str]

    def encoded(self) -> _Filling:
        """The same, for an address as it was sent."""
        return _Filling({name: quote(value, safe="") for name, value in self.known.items()}, self.fields)

    def fill(self, part: Any) -> Any:
        """A part of a preset with everything put in its place."""
        if isinstance(part, dict):
            return {key: self.fill(value) for key, value in part.items()}
        if isinstance(part, list):
            return [made for item in part for made in (self.fields if item == "${fields}" else [self.fill(item)])]
        return _PLACEHOLDER.sub(lambda match: self.known[match[1]], part)


def names() -> list[str]:
    """The presets that ship."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name: str) -> Preset:
    """One of the presets that ship."""
    return Preset.model_validate(read_yaml(PRESETS / f"{name}.yaml").content)


def expand(content: Any) -> Any:
    """The content of an action file, with the preset that it names (if any) put in its place; raises `ValidationError`."""
    if not isinstance(content, dict) or "preset" not in content:
        return content
    include = Include.model_validate(content)
    if include.preset not in names():
        raise _invalid([_mistake(("preset",), f"expected one of: {', '.join(names())}", include.preset)])
    preset = load_preset(include.preset)
    if isinstance(include.auth, str) and include.auth not in preset.auth:
        raise _invalid([_mistake(("auth",), f"expected a mapping, or one of: {', '.join(preset.auth)}", include.auth)])
    filling = _filling(include, preset)
    auth = _auth(include, preset, filling)
    methods: dict[str, Any] = {
        name: {**_method(name, parts, include, preset, filling), "auth": auth} for name, parts in preset.methods.items()
    }
    return {
        "format": include.format,
        "connector": include.connector or preset.preset,
        "description": include.description or preset.description,
        "methods": methods | include.methods,
    }


def _filling(include: Include, preset: Preset) -> _Filling:
    """What each placeholder stands for; raises `ValidationError` with everything that is wrong."""
    known = {name: setting.default for name, setting in preset.settings.items() if setting.default is not None} | include.settings
    mistakes = [
        _mistake(("settings", name), f"the preset has no such setting; there are: {', '.join(preset.settings)}", value)
        for name, value in include.settings.items()
        if name not in preset.settings
    ]
    for name, setting in preset.settings.items():
        if name not in known:
            mistakes.append(_mistake(("settings",), f"the preset needs the setting {name}: {setting.description}", None))
        elif not re.fullmatch(setting.pattern, known[name]):
            mistakes.append(_mistake(("settings", name), f"expected {setting.description}", known[name]))
    if mistakes:
        raise _invalid(mistakes)
    asked = _Filling(known, []).fill(preset.asked)
    fields = [field for field in dict.fromkeys(each.field for each in include.fields.values()) if field not in asked]
    added = {"fields": "".join(f",{field}" for field in fields), "quoted_fields": "".join(f',"{field}"' for field in fields)}
    return _Filling({**known, **added, "credentials": include.credentials or preset.preset}, fields)


def _method(name: str, parts: Mapping[str, Any], include: Include, preset: Preset, filling: _Filling) -> dict[str, Any]:
    """A method of the preset; the request line of a sample is an address as it was sent, so that what is put there is encoded."""
    method = {key: filling.fill(part) for key, part in parts.items() if key != "samples"}
    method["samples"] = {
        title: {key: (filling.encoded() if key == "request" else filling).fill(part) for key, part in sample.items()}
        for title, sample in parts["samples"].items()
    }
    path = preset.fields.get(name)
    if path is not None:
        method["response"] = method["response"] | {attribute: each.output(path) for attribute, each in include.fields.items()}
    return method


def _auth(include: Include, preset: Preset, filling: _Filling) -> dict[str, Any]:
    """How requests prove who asks: as the project says, else the first way that the preset knows."""
    if isinstance(include.auth, dict):
        return include.auth
    chosen = include.auth or next(iter(preset.auth))
    return {"scheme": chosen, "credentials": filling.known["credentials"], **filling.fill(preset.auth[chosen])}


def _mistake(place: tuple[str, ...], message: str, found: Any) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("preset", "{message}", {"message": message}), loc=place, input=found)


def _invalid(mistakes: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data("preset", mistakes)
