"""What the models of action files have in common."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from . import templates

BASE_URL = re.compile(r"^\{\{\s*base_url\s*\}\}(?=/|$)")
LITERAL_HOST = re.compile(r"^https?://[A-Za-z0-9.\-\[\]:]+(?=[/?]|$)")
BUILT_IN = frozenset({"call_id", "request_id"})
"""Names that every template of a request knows beside its parameters: the call, and the request, which is new for each step."""


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ValueError("expected a name of lower case letters, digits and _, beginning with a letter, of at most 40 characters")
    return name


Name = Annotated[str, AfterValidator(_name)]
Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,60}$")]


class Part(BaseModel):
    """Nothing but the declared keys, and never changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Setting(Part):
    """A value that differs between installations and is no secret. One without a `default` must be set; samples use the `example`."""

    default: str | None = None
    example: str = "sample"
    description: str = ""


def checked(where: str, compiler: Any, source: Any, names: set[str]) -> None:
    """Compile a template for its mistakes alone; raises `ValueError` that says where."""
    try:
        compiler(source, names)
    except templates.BadTemplate as error:
        raise ValueError(f"{where}: {error}") from error


def own_address(url: str) -> str:
    """The part of an address that may have templates: what follows the host. Raises `ValueError` where a value could choose the host."""
    base = BASE_URL.match(url) or LITERAL_HOST.match(url)
    if base is None:
        raise ValueError("expected a url that begins with {{ base_url }} or with https:// and a literal host")
    if "#" in url or "?" in url:
        raise ValueError("expected a url without ? and #; what follows ? belongs under query")
    return url[base.end() :]


def absolute(url: str, base_url: str, values: dict[str, Any], names: set[str]) -> str:
    """An address that only settings fill, filled."""
    base = BASE_URL.match(url)
    return (base_url if base else url[: len(url) - len(own_address(url))]) + templates.address(own_address(url), names)(values)
