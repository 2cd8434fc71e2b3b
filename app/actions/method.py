"""One method of another system, as its file describes it: five parts, and how it is run stands apart.

An address is either a literal `https://host/...` or begins with `{{ base_url }}`, which comes with the credentials, so that
no value of a call can choose the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from jmespath.exceptions import JMESPathError
from pydantic import AfterValidator, AliasChoices, Field, model_validator

from . import templates
from .dialects import Request, Sql, Web
from .extract import Attribute, compile_path
from .parts import BUILT_IN, Header, Name, Part, Setting, checked
from .schemes import Auth
from .values import TYPES, TooBig, WrongType, cel_type, from_text

DEFAULT_BUDGET: Final = 2.5
MAX_BUDGET: Final = 8.0


def _type(name: str) -> str:
    if name not in TYPES:
        raise ValueError(f"expected one of: {', '.join(TYPES)}")
    return name


def _path(path: str) -> str:
    try:
        if path:
            compile_path(path)
    except JMESPathError as error:
        raise ValueError("expected a JMESPath") from error
    return path


TypeName = Annotated[str, AfterValidator(_type)]


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
    """One response attribute: a `path` into the answer, or a `template` over the other attributes, settings and base_url.

    Without a `default` (JSON, unless a string), an answer that lacks the path is malformed. A template makes a string: an address
    where it begins with one (`https://host/`, `{{ base_url }}/`, `{{ settings.x }}/`), its values encoded, any other a text. Where one of
    its values is empty, it is the default.
    """

    path: Annotated[str, AfterValidator(_path)] = ""
    template: str = ""
    type: TypeName
    default: str | None = None

    @model_validator(mode="after")
    def _default_fits(self) -> Output:
        if bool(self.path) == bool(self.template):
            raise ValueError("expected either a path or a template")
        if self.template and self.type != "string":
            raise ValueError("expected the type string, since a template is a text")
        _spelled(self.default, self.type)
        return self

    def attribute(self, name: str, loose: bool) -> Attribute:
        """What reads it from an answer; `loose` where the source has no types of its own."""
        if self.default is None:
            return Attribute(name, self.path, self.type, loose=loose)
        return Attribute(name, self.path, self.type, _spelled(self.default, self.type), loose)


class Reply(Part):
    """The response of a sample, as it came: status, and the body as text."""

    status: int = Field(default=200, ge=100, le=599)
    body: str = ""


class Sample(Part):
    """A request that was made (`GET /path?query`, and its body), and its outcome: attributes under `expect`, or `fails` with a reason.

    A method of `sql` or `csv` has as request `sql {"parameter":"value"}` or `csv FILE {"column":"value"}`, and as response the rows,
    a JSON list. The call's id and the request's are `call` and `request` in samples; every secret is `sample`.
    """

    parameters: dict[str, str] = Field(default_factory=dict)
    request: str
    body: str = ""
    response: Reply
    expect: dict[str, str] = Field(default_factory=dict)
    fails: Literal["", "status", "malformed", "too_big", "fault"] = ""

    @model_validator(mode="after")
    def _one_outcome(self) -> Sample:
        if ("expect" in self.model_fields_set) == bool(self.fails):
            raise ValueError("expected either attributes under expect (`{}` for a response without any), or a reason under fails")
        return self


class Find(Part):
    """Find before create: the `method` of the same connector that says whether it was done already, in its attribute `found`.

    Its parameters are those of ours that have the same names, or as `parameters` (templates) say. Where it finds, its attributes are
    the answer.
    """

    method: Name
    parameters: dict[Name, str] = Field(default_factory=dict)
    found: Name = "found"


class Run(Part):
    """How it is run: budget in seconds, repeats after a failure, what makes a repeat harmless, what is sensitive, how many at once.

    `once` says why asking twice does no harm: it only reads (`read`, for a POST that searches), the system knows the `key` that is sent
    in the header `idempotency_header`, it is an `upsert`, or we `find` before we create. The key is a template; the `request_id` that it is
    unless said otherwise is the call's id with a number that is new for each request of each step, and the same after a crash.
    `sensitive` names parameters and response attributes that are shown nowhere.
    """

    budget: float = Field(default=DEFAULT_BUDGET, gt=0, le=MAX_BUDGET)
    retry: int = Field(default=0, ge=0, le=2)
    once: Literal["none", "read", "key", "upsert", "find"] = Field(default="none", validation_alias=AliasChoices("once", "idempotency"))
    key: str = "{{ request_id }}"
    idempotency_header: Header = "Idempotency-Key"
    find: Find | None = None
    sensitivity: Literal["open", "personal", "secret"] = "personal"
    sensitive: tuple[Name, ...] = ()
    """Parameters and attributes that may not decide a routing, nor be spoken, sent or shown: they may only be parameters of actions."""
    concurrency: int = Field(default=20, ge=1, le=200)

    @model_validator(mode="after")
    def _find_is_whole(self) -> Run:
        if (self.once == "find") != (self.find is not None):
            raise ValueError("expected find: {method: ...} together with once: find")
        return self


class Method(Part):
    """The five parts, and how it is run; the settings of its connector, and the project's folder."""

    request: Request
    parameters: dict[Name, Parameter]
    response: dict[Name, Output]
    auth: Auth
    samples: Annotated[dict[str, Sample], Field(min_length=1)]
    run: Run = Run()
    settings: dict[str, Setting] = Field(default_factory=dict)
    folder: Path = Path(".")

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.request.reads or self.run.once == "read"

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
        names, request, run = self.names, self.request, self.run
        request.check(names)
        self.auth.check(self.setting_names)
        if isinstance(request, Web) and request.based and not self.auth.credentials:
            raise ValueError(
                "auth.credentials: expected a name, since the url begins with {{ base_url }}, which comes with the credentials"
            )
        if isinstance(request, Sql) and not self.auth.credentials:
            raise ValueError("auth.credentials: expected a name, since the database comes with the credentials")
        if not isinstance(request, Web) and self.auth.scheme != "none":
            raise ValueError(f"auth.scheme: expected none, since {request.kind} is not asked over HTTP")
        checked("run.key", templates.text, run.key, names)
        for name, source in (run.find.parameters if run.find else {}).items():
            checked(f"run.find.parameters.{name}", templates.body, source, names)
        if run.retry and not self.reads and run.once == "none":
            raise ValueError(f"run.retry: expected run.once key, upsert, find or read, since a repeated {request.method} may act twice")
        unknown = sorted(set(run.sensitive) - set(self.parameters) - set(self.response))
        if unknown:
            raise ValueError(f"run.sensitive: there is no parameter or attribute {unknown[0]!r}")
        plain = {name for name, output in self.response.items() if output.path}
        for name, output in self.response.items():
            if output.template:
                checked(f"response.{name}.template", templates.text, output.template, {*plain, "base_url", *self.setting_names})
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


def finder_of(definition: ActionDef) -> str:
    """The full name of the method that finds before this one creates, "" where there is none."""
    find = definition.run.find
    return f"{definition.name.partition('.')[0]}.{find.method}" if find else ""


def find_problem(definition: ActionDef, known: Mapping[str, ActionDef]) -> str:
    """Why the method that finds before this one creates cannot do so, "" when it can or when there is none."""
    find = definition.run.find
    if find is None:
        return ""
    finder = known.get(finder_of(definition))
    if finder is None:
        return f"there is no method {find.method!r} in this connector"
    if not finder.reads or finder.run.find:
        return f"{find.method} does not only read"
    lacking = sorted(set(finder.inputs) - set(find.parameters) - set(definition.parameters))
    unknown = sorted(set(find.parameters) - set(finder.parameters))
    other = [name for name, kind in definition.outputs.items() if finder.outputs.get(name) != kind]
    if lacking or unknown:
        return f"{find.method} needs {lacking[0]!r}" if lacking else f"{find.method} has no parameter {unknown[0]!r}"
    if other:
        return f"{find.method} has no attribute {other[0]!r} of the same type"
    if finder.outputs.get(find.found) not in ("bool", "int"):
        return f"{find.method} has no boolean or integer attribute {find.found!r}"
    return ""


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
