"""How a method is asked: the part `request` of an action file, one model for each `kind`.

    rest      method, url, query, headers, body (JSON) or form, absent, redirects
    graphql   url, headers, query (the document), variables; attributes are found in `data`, and `errors` are a failure
    soap      url, headers, action, envelope, version, lists; attributes are found in the first element of the Body, a Fault is a failure
    sql       statement (one SELECT with :parameters), rows; attributes are found in {"rows": [...], "count": n, "more": bool}
    csv       file (in the project's folder), match, numbers, region, delimiter, rows; attributes as with sql

Each says of itself whether it only reads (`reads`), checks its templates (`check`) and names the HTTP `method` it is sent with.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import Discriminator, Field, StringConstraints, Tag, field_validator, model_validator

from . import select, soap, templates
from .parts import BASE_URL, Header, Part, checked, own_address

_EXPRESSION: Final = re.compile(r"^\{\{[^{}]+\}\}$")
_Column = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Web(Part):
    """What all that goes over HTTP has: an address in which no value can choose the host, and headers."""

    url: str
    headers: dict[Header, str] = Field(default_factory=dict)

    @field_validator("url")
    @classmethod
    def _address_is_ours(cls, value: str) -> str:
        own_address(value)
        return value

    @property
    def based(self) -> bool:
        """Whether the address begins with the base address of the credentials."""
        return BASE_URL.match(self.url) is not None

    def check(self, names: set[str]) -> None:
        """Raises `ValueError` for a template that is none."""
        checked("request.url", templates.address, own_address(self.url), names)
        for name, source in self.headers.items():
            checked(f"request.headers.{name}", templates.text, source, names)


class Rest(Web):
    """A REST method. `absent` are statuses that mean there is nothing: all attributes then have their defaults."""

    kind: Literal["rest"] = "rest"
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    query: dict[str, str] = Field(default_factory=dict)
    body: dict[str, Any] | list[Any] | str | None = Field(default=None, union_mode="left_to_right")
    form: dict[str, str] | None = None
    absent: tuple[Annotated[int, Field(ge=400, le=499)], ...] = ()
    redirects: int = Field(default=0, ge=0, le=3)

    @model_validator(mode="after")
    def _one_body(self) -> Rest:
        if isinstance(self.body, str) and not _EXPRESSION.fullmatch(self.body):
            raise ValueError("body: expected a mapping, a list, or one {{ expression }} that gives one of them")
        if self.body is not None and self.form is not None:
            raise ValueError("expected body or form, found both")
        if self.redirects and not self.reads:
            raise ValueError(f"expected no redirects: a {self.method} is not sent to another address")
        return self

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.method in ("GET", "HEAD")

    def check(self, names: set[str]) -> None:
        """Raises `ValueError` for a template that is none."""
        super().check(names)
        for part, fields in (("query", self.query), ("form", self.form or {})):
            for name, source in fields.items():
                checked(f"request.{part}.{name}", templates.text, source, names)
        if self.body is not None:
            checked("request.body", templates.body, self.body, names)


class GraphQL(Web):
    """A GraphQL operation. `query` is sent as it is written; values go into `variables` alone."""

    kind: Literal["graphql"]
    query: str
    variables: dict[str, Any] = Field(default_factory=dict)
    method: ClassVar[str] = "POST"

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return re.search(r"\b(mutation|subscription)\b", _without_comments(self.query)) is None

    def check(self, names: set[str]) -> None:
        """Raises `ValueError` for a template that is none, and for a value inside the query."""
        super().check(names)
        if re.search(r"\{\{\s*\w+\s*\}\}", self.query):
            raise ValueError("request.query: expected no {{ value }} in the query; give it as a variable")
        if not re.match(r"\s*(\{|query\b|mutation\b)", _without_comments(self.query)):
            raise ValueError("request.query: expected a GraphQL query or mutation")
        checked("request.variables", templates.body, self.variables, names)


class Soap(Web):
    """A SOAP operation. Values are escaped in the `envelope`; elements named in `lists` are lists however many there are."""

    kind: Literal["soap"]
    action: str = Field(default="", pattern=r"^[!#-~]{0,200}$")
    envelope: str
    version: Literal["1.1", "1.2"] = "1.1"
    lists: tuple[str, ...] = ()
    method: ClassVar[str] = "POST"
    reads: ClassVar[bool] = False

    def check(self, names: set[str]) -> None:
        """Raises `ValueError` for a template that is none, and for an envelope that is no XML."""
        super().check(names)
        checked("request.envelope", templates.xml, self.envelope, names)
        try:
            soap.tree(re.sub(r"\{\{.*?\}\}", "x", self.envelope).encode())
        except ValueError as error:
            raise ValueError(f"request.envelope: {error}") from error


class Sql(Part):
    """One SELECT in the database of the credentials, read-only. `rows` is how many at most are taken."""

    kind: Literal["sql"]
    statement: str
    rows: int = Field(default=10, ge=1, le=100)
    reads: ClassVar[bool] = True
    method: ClassVar[str] = "SELECT"

    def check(self, names: set[str]) -> None:
        """Raises `ValueError` for anything but one SELECT over the declared parameters."""
        try:
            asked = select.parameters(self.statement)
        except ValueError as error:
            raise ValueError(f"request.statement: {error}") from error
        unknown = sorted(asked - names)
        if unknown:
            raise ValueError(f"request.statement: {unknown[0]!r} is not a declared parameter; there are: {', '.join(sorted(names))}")


class Csv(Part):
    """Rows of a file whose columns equal what `match` gives. Columns in `numbers` hold telephone numbers, of `region` unless they say."""

    kind: Literal["csv"]
    file: str
    match: Annotated[dict[_Column, str], Field(min_length=1)]
    numbers: tuple[_Column, ...] = ()
    region: str = Field(default="", pattern=r"^([A-Z]{2})?$")
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    rows: int = Field(default=10, ge=1, le=100)
    reads: ClassVar[bool] = True
    method: ClassVar[str] = "SELECT"

    @field_validator("file")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if not value or path.is_absolute() or ".." in path.parts or "{{" in value:
            raise ValueError("expected the path of a file, beginning at the project's folder and inside of it")
        return value

    def check(self, names: set[str]) -> None:
        """Raises `ValueError` for a template that is none."""
        for column, source in self.match.items():
            checked(f"request.match.{column}", templates.text, source, names)


def _kind(value: Any) -> str:
    return str(value.get("kind", "rest")) if isinstance(value, dict) else str(getattr(value, "kind", "rest"))


Request: TypeAlias = Annotated[
    Annotated[Rest, Tag("rest")]
    | Annotated[GraphQL, Tag("graphql")]
    | Annotated[Soap, Tag("soap")]
    | Annotated[Sql, Tag("sql")]
    | Annotated[Csv, Tag("csv")],
    Discriminator(_kind, custom_error_type="kind", custom_error_message="expected the kind rest, graphql, soap, sql or csv"),
]
KINDS = ("rest", "graphql", "soap", "sql", "csv")


def _without_comments(document: str) -> str:
    """A GraphQL document without comments and strings."""
    return re.sub(r'"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|#[^\n]*', " ", document)
