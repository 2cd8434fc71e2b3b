"""An action definition made ready to run: templates compiled, address and header joined, attributes compiled, all once.

`Prepared.request(params)` is pure: the parameters of a command become one HTTP request, or `BadValue` says why they cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from multidict import CIMultiDict
from yarl import URL

from . import templates
from .credentials import Credentials
from .files import ActionDef
from .http import HttpRequest
from .parts import BASE_URL, own_address
from .templates import BadValue
from .tokens import Grant
from .values import TooBig, WrongType, convert

_NO_CREDENTIALS = Credentials()


class Prepared:
    """One action, ready. Raises `ValueError` when the credentials it names are missing or lack what its scheme needs."""

    def __init__(self, definition: ActionDef, credentials: Mapping[str, Credentials]) -> None:
        self.definition = definition
        access = self._access(credentials)
        request, names, auth = definition.request, definition.names, definition.auth
        self._settings = self._chosen(access)
        self._parameters = tuple((name, p.type, p.required, None if p.required else p.value) for name, p in definition.parameters.items())
        self._names = frozenset(definition.parameters)
        own = own_address(request.url)
        self._base = access.base_url if BASE_URL.match(request.url) else request.url.removesuffix(own)
        self._address = templates.address(own, names)
        self._query = [(name, templates.text(source, names)) for name, source in request.query.items()]
        self._headers = [(name, templates.text(source, names)) for name, source in request.headers.items()]
        self._body = None if request.body is None else templates.body(request.body, names)
        self._fixed = CIMultiDict({"Accept": "application/json", "Accept-Encoding": "identity"})
        self._secret_query: tuple[tuple[str, str], ...] = ()
        self.proof: dict[str, str] = {}
        if auth.scheme in ("basic", "bearer"):
            self.proof = {"Authorization": access.header(auth.scheme)}
        elif auth.scheme == "api_key" and auth.place == "header":
            self.proof = {auth.name: auth.prefix + access.secret("api_key")}
        elif auth.scheme == "api_key":
            self._secret_query = ((auth.name, auth.prefix + access.secret("api_key")),)
        self._fixed.update(self.proof)
        self.grant = self._granted(access) if auth.oauth2 else None
        if self._body is not None:
            self._fixed["Content-Type"] = "application/json"
        self.origins = [URL(self._base).origin(), *([self.grant.url.origin()] if self.grant else [])]
        self.attributes = tuple(output.attribute(name) for name, output in definition.response.items())
        self._key_header = definition.run.idempotency_header if definition.run.idempotency == "key" else ""

    def request(self, params: Mapping[str, Any], request_id: str = "request", call_id: str = "call") -> HttpRequest:
        """The HTTP request for these parameters; raises `BadValue`. `request_id` makes a repeat harmless where a key is declared."""
        values = self._bind(params)
        values = {"settings": self._settings, "request_id": request_id, "call_id": call_id, **values}
        address = self._base + self._address(values)
        query = [(name, text) for name, text in [(name, make(values)) for name, make in self._query] if text]
        query.extend(self._secret_query)
        if query:
            address += "?" + urlencode(query, quote_via=quote)
        headers = self._fixed.copy()
        for name, make in self._headers:
            headers[name] = _header(name, make(values))
        if self._key_header:
            headers[self._key_header] = _header(self._key_header, request_id)
        return HttpRequest(
            method=self.definition.request.method,
            url=URL(address, encoded=True),
            headers=headers,
            body=None if self._body is None else orjson.dumps(self._body(values)),
        )

    def _access(self, credentials: Mapping[str, Credentials]) -> Credentials:
        name, scheme = self.definition.auth.credentials, self.definition.auth.scheme
        if not name:
            return _NO_CREDENTIALS
        if name not in credentials:
            raise ValueError(
                f"{self.definition.name}: there are no credentials named {name!r}; there are: {', '.join(sorted(credentials)) or 'none'}"
            )
        access = credentials[name]
        lacking = access.lacks(scheme)
        if lacking:
            raise ValueError(f"{self.definition.name}: the credentials {name!r}: {lacking}, which {scheme} needs")
        if BASE_URL.match(self.definition.request.url) and not access.base_url:
            raise ValueError(f"{self.definition.name}: the credentials {name!r} have no base_url")
        return access

    def _chosen(self, access: Credentials) -> dict[str, str]:
        try:
            return access.chosen(self.definition.settings)
        except ValueError as error:
            raise ValueError(f"{self.definition.name}: the credentials {self.definition.auth.credentials!r}: {error}") from error

    def _granted(self, access: Credentials) -> Grant:
        try:
            return Grant(self.definition.auth, access, self._settings)
        except ValueError as error:
            raise ValueError(f"{self.definition.name}: the credentials {self.definition.auth.credentials!r}: {error}") from error

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
