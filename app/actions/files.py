"""Action files: one file a connector, each method described in exactly five parts, and how it is run stands apart.

    connector: crm
    settings:        what differs between installations and is no secret, used as {{ settings.name }} (optional)
    methods:
      contact_by_phone:
        request:     how it is asked: kind, method, url, query, headers, body
        parameters:  what it needs, each with its type
        response:    what comes out, each attribute a JMESPath with its type
        auth:        the scheme, and the name of the credentials; never a secret
        samples:     requests with the responses they had, and the attributes expected of them
        run:         budget, retries, idempotency, sensitivity, how many at once (optional)

An address is either a literal `https://host/...` or begins with `{{ base_url }}`, which comes with the credentials, so that
no value of a call can choose the host. Every mistake found in every file is reported in one `ActionFileError`, each with file and line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from jmespath.exceptions import JMESPathError
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from app.yamlfile import Document, Place, YamlError, read_yaml

from . import templates
from .extract import Attribute, compile_path
from .parts import BASE_URL, BUILT_IN, Header, Name, Part, Setting, checked, own_address
from .schemes import Auth
from .values import TYPES, TooBig, WrongType, cel_type, from_text

DEFAULT_BUDGET: Final = 2.5
MAX_BUDGET: Final = 8.0
_SAFE_METHODS: Final = ("GET", "HEAD")
_OURS: Final = ("name", "settings")


class ActionFileError(ValueError):
    """Files that cannot be used; `problems` has a line for each mistake: file, line, place, what was expected and found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _type(name: str) -> str:
    if name not in TYPES:
        raise ValueError(f"expected one of: {', '.join(TYPES)}")
    return name


def _path(path: str) -> str:
    try:
        compile_path(path)
    except JMESPathError as error:
        raise ValueError("expected a JMESPath") from error
    return path


TypeName = Annotated[str, AfterValidator(_type)]


class Request(Part):
    """How the method is asked. `kind` is the dialect; `body` a mapping or list whose leaves are templates, sent as JSON."""

    kind: Literal["rest"] = "rest"
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    url: str
    query: dict[str, str] = Field(default_factory=dict)
    headers: dict[Header, str] = Field(default_factory=dict)
    body: dict[str, Any] | list[Any] | None = Field(default=None, union_mode="left_to_right")

    @model_validator(mode="after")
    def _address_is_ours(self) -> Request:
        own_address(self.url)
        return self


class Parameter(Part):
    """One value that the method takes. One that is not required has a `default` (JSON, unless a string)."""

    type: TypeName = "string"
    required: bool = True
    default: str | None = None
    description: str = ""

    @model_validator(mode="after")
    def _default_fits(self) -> Parameter:
        if self.required == (self.default is not None):
            raise ValueError("expected a default for a parameter that is not required, and none for one that is")
        _spelled(self.default, self.type)
        return self

    @property
    def value(self) -> Any:
        """The default as its type."""
        return _spelled(self.default, self.type)


class Output(Part):
    """One response attribute. Without a `default` (JSON, unless a string), a response that lacks it is malformed."""

    path: Annotated[str, AfterValidator(_path)]
    type: TypeName
    default: str | None = None

    @model_validator(mode="after")
    def _default_fits(self) -> Output:
        _spelled(self.default, self.type)
        return self

    def attribute(self, name: str) -> Attribute:
        """What reads it from a response."""
        if self.default is None:
            return Attribute(name, self.path, self.type)
        return Attribute(name, self.path, self.type, _spelled(self.default, self.type))


class Reply(Part):
    """The response of a sample, as it came: status, and the body as text."""

    status: int = Field(default=200, ge=100, le=599)
    body: str = ""


class Sample(Part):
    """A request that was made (`GET /path?query`, and its body), and its outcome: attributes under `expect`, or `fails` with a reason."""

    parameters: dict[str, str] = Field(default_factory=dict)
    request: str
    body: str = ""
    response: Reply
    expect: dict[str, str] = Field(default_factory=dict)
    fails: Literal["", "status", "malformed", "too_big"] = ""

    @model_validator(mode="after")
    def _one_outcome(self) -> Sample:
        if bool(self.expect) == bool(self.fails):
            raise ValueError("expected either attributes under expect, or a reason under fails")
        return self


class Run(Part):
    """How it is run: budget in seconds, repeats after a failure, what makes a repeat harmless, how many at once."""

    budget: float = Field(default=DEFAULT_BUDGET, gt=0, le=MAX_BUDGET)
    retry: int = Field(default=0, ge=0, le=2)
    idempotency: Literal["none", "key", "upsert"] = "none"
    idempotency_header: Header = "Idempotency-Key"
    sensitivity: Literal["open", "personal", "secret"] = "personal"
    concurrency: int = Field(default=20, ge=1, le=200)


class Method(Part):
    """The five parts, and how it is run."""

    request: Request
    parameters: dict[Name, Parameter]
    response: dict[Name, Output]
    auth: Auth
    samples: Annotated[dict[str, Sample], Field(min_length=1)]
    run: Run = Run()
    settings: dict[str, Setting] = Field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """What templates of the request may use."""
        return {*self.parameters, *BUILT_IN, *self.setting_names}

    @property
    def setting_names(self) -> set[str]:
        """The declared settings, as templates write them."""
        return {f"settings.{name}" for name in self.settings}

    @model_validator(mode="after")
    def _parts_fit(self) -> Method:
        names, request = self.names, self.request
        checked("request.url", templates.address, own_address(request.url), names)
        for part in ("query", "headers"):
            for key, source in getattr(request, part).items():
                checked(f"request.{part}.{key}", templates.text, source, names)
        if request.body is not None:
            checked("request.body", templates.body, request.body, names)
        self.auth.check(self.setting_names)
        if BASE_URL.match(request.url) and not self.auth.credentials:
            raise ValueError(
                "auth.credentials: expected a name, since the url begins with {{ base_url }}, which comes with the credentials"
            )
        if self.run.retry and request.method not in _SAFE_METHODS and self.run.idempotency == "none":
            raise ValueError(f"run.retry: expected run.idempotency key or upsert, since a repeated {request.method} may act twice")
        for title, sample in self.samples.items():
            _sample_fits(title, sample, self)
        return self


class ActionDef(Method):
    """One method with its full name, `connector.method`."""

    name: str

    @property
    def outputs(self) -> dict[str, str]:
        """The type of each response attribute, by its name in conditions: string, bool, int, double, map, list."""
        return {name: cel_type(output.type) for name, output in self.response.items()}

    @property
    def inputs(self) -> dict[str, str]:
        """The type of each required parameter, by its name in conditions."""
        return {name: cel_type(parameter.type) for name, parameter in self.parameters.items() if parameter.required}


def _version(value: Any) -> Any:
    return value if value is not None else "1"


class Connector(Part):
    """One file: a connector with its methods. Each method is checked by itself, so that all mistakes are found at once."""

    format: Annotated[Literal["1"], BeforeValidator(_version)] = "1"
    connector: Name
    description: str = ""
    settings: dict[Name, Setting] = Field(default_factory=dict)
    methods: dict[Name, dict[str, Any]] = Field(min_length=1)


def load_actions(directory: Path) -> dict[str, ActionDef]:
    """All methods of all `*.yaml` files of a directory, by full name; raises `ActionFileError` with every mistake."""
    problems: list[str] = []
    found: dict[str, ActionDef] = {}
    if not directory.is_dir():
        raise ActionFileError([f"{directory}: expected a directory of action files, found none"])
    for path in sorted(directory.glob("*.yaml")):
        for name, definition in _load_file(path, problems).items():
            if name in found:
                problems.append(f"{path}:1: {name}: the method is described in another file as well")
            found[name] = definition
    if problems:
        raise ActionFileError(problems)
    return found


def _load_file(path: Path, problems: list[str]) -> dict[str, ActionDef]:
    try:
        document = read_yaml(path)
        connector = Connector.model_validate(document.content)
    except YamlError as error:
        problems.append(f"{path}:{error.line}: {error}")
        return {}
    except OSError as error:
        problems.append(f"{path}:1: cannot be read: {error.strerror}")
        return {}
    except ValidationError as error:
        problems.extend(_explain(path, document, (), error))
        return {}
    found: dict[str, ActionDef] = {}
    for method, parts in connector.methods.items():
        name = f"{connector.connector}.{method}"
        try:
            foreign = [
                f"{path}:{document.line(('methods', method, key))}: methods.{method}.{key}: no such key is known here"
                for key in _OURS
                if key in parts
            ]
            problems.extend(foreign)
            found[name] = ActionDef.model_validate({**parts, "name": name, "settings": connector.settings})
        except ValidationError as error:
            problems.extend(_explain(path, document, ("methods", method), error))
    return found


def _explain(path: Path, document: Document, around: Place, error: ValidationError) -> list[str]:
    lines = []
    for detail in error.errors(include_url=False):
        place: Place = (*around, *detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "missing":
            message = "this part is missing"
        elif detail["type"] == "extra_forbidden":
            message = "no such key is known here"
        elif isinstance(detail["input"], str):
            message += f", found {detail['input'][:60]!r}"
        where = ".".join(str(step) for step in place if step != "[key]") or "the file"
        lines.append(f"{path}:{document.line(place)}: {where}: {message}")
    return lines


def _spelled(text: str | None, kind: str) -> Any:
    try:
        return None if text is None else from_text(text, kind)
    except (WrongType, TooBig) as error:
        raise ValueError(str(error)) from error


def _sample_fits(title: str, sample: Sample, method: Method) -> None:
    """A sample speaks of declared parameters and attributes only, gives all that are required, and expects all that come."""
    for name, text in sample.parameters.items():
        if name not in method.parameters:
            raise ValueError(f"samples.{title}.parameters.{name}: no such parameter is declared")
        _spelled(text, method.parameters[name].type)
    lacking = [name for name, parameter in method.parameters.items() if parameter.required and name not in sample.parameters]
    if lacking:
        raise ValueError(f"samples.{title}.parameters: {lacking[0]} is required")
    for name, text in sample.expect.items():
        if name not in method.response:
            raise ValueError(f"samples.{title}.expect.{name}: no such attribute is declared")
        _spelled(text, method.response[name].type)
