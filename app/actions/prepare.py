"""An action definition made ready to run: templates compiled, address and header joined, attributes compiled, all once.

`Prepared.request(params)` is pure: the parameters of a command become one HTTP request, or `BadValue` says why they cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from multidict import CIMultiDict
from yarl import URL

from . import templates
from .credentials import Credentials
from .files import BASE_URL, ActionDef
from .templates import BadValue
from .values import TooBig, WrongType, convert

_NO_CREDENTIALS = Credentials()


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, complete."""

    method: str
    url: URL
    headers: CIMultiDict[str]
    body: bytes | None


class Prepared:
    """One action, ready. Raises `ValueError` when the credentials it names are missing or lack what its scheme needs."""

    def __init__(self, definition: ActionDef, credentials: Mapping[str, Credentials]) -> None:
        self.definition = definition
        access = self._access(credentials)
        request, names = definition.request, set(definition.parameters)
        self._parameters = tuple((name, p.type, p.required, None if p.required else p.value) for name, p in definition.parameters.items())
        self._names = frozenset(names)
        self._address = templates.address(BASE_URL.sub("", request.url, count=1), names)
        self._base = access.base_url if BASE_URL.match(request.url) else ""
        self._query = [(name, templates.text(source, names)) for name, source in request.query.items()]
        self._headers = [(name, templates.text(source, names)) for name, source in request.headers.items()]
        self._body = None if request.body is None else templates.body(request.body, names)
        self._fixed = CIMultiDict({"Accept": "application/json", "Accept-Encoding": "identity"})
        if definition.auth.scheme != "none":
            self._fixed["Authorization"] = access.header(definition.auth.scheme)
        if self._body is not None:
            self._fixed["Content-Type"] = "application/json"
        self.origin = URL(self._base or request.url.split("{{")[0]).origin()
        self.attributes = tuple(output.attribute(name) for name, output in definition.response.items())
        self._key_header = definition.run.idempotency_header if definition.run.idempotency == "key" else ""

    def request(self, params: Mapping[str, Any], key: str = "") -> HttpRequest:
        """The HTTP request for these parameters; raises `BadValue`. `key` makes a repeat harmless where the action declares one."""
        values = self._bind(params)
        address = self._base + self._address(values)
        query = [(name, text) for name, text in [(name, make(values)) for name, make in self._query] if text]
        if query:
            address += "?" + urlencode(query, quote_via=quote)
        headers = self._fixed.copy()
        for name, make in self._headers:
            headers[name] = _header(name, make(values))
        if self._key_header:
            headers[self._key_header] = _header(self._key_header, key)
        return HttpRequest(
            method=self.definition.request.method,
            url=URL(address, encoded=True),
            headers=headers,
            body=None if self._body is None else orjson.dumps(self._body(values)),
        )

    def _access(self, credentials: Mapping[str, Credentials]) -> Credentials:
        name = self.definition.auth.credentials
        if not name:
            return _NO_CREDENTIALS
        if name not in credentials:
            raise ValueError(
                f"{self.definition.name}: there are no credentials named {name!r}; there are: {', '.join(sorted(credentials)) or 'none'}"
            )
        access = credentials[name]
        try:
            access.header(self.definition.auth.scheme)
        except ValueError as error:
            raise ValueError(
                f"{self.definition.name}: the credentials {name!r}: {error}, which {self.definition.auth.scheme} needs"
            ) from error
        if BASE_URL.match(self.definition.request.url) and not access.base_url:
            raise ValueError(f"{self.definition.name}: the credentials {name!r} have no base_url")
        return access

    def _bind(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with their types; a required string must not be empty: a search without its term finds everybody."""
        if not params.keys() <= self._names:
            raise BadValue(f"there is no parameter {sorted(params.keys() - self._names)[0]!r}")
        values = {}
        for name, kind, required, default in self._parameters:
            if name not in params:
                if required:
                    raise BadValue(f"the parameter {name!r} is missing")
                values[name] = default
                continue
            try:
                values[name] = convert(params[name], kind)
            except (WrongType, TooBig) as error:
                raise BadValue(f"the parameter {name!r}: {error}") from error
            if required and values[name] == "":
                raise BadValue(f"the parameter {name!r} is empty")
        return values


def _header(name: str, value: str) -> str:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise BadValue(f"the header {name!r} would hold a control character")
    return value
