"""An action definition made ready to run: templates compiled, address and header joined, attributes compiled, all once.

`Prepared.values(params)` are the parameters of a command with their types, `Prepared.request(params)` makes one HTTP request of them; both
are pure, and `BadValue` says why they cannot. `Prepared.table` is what is asked where the method does not go over HTTP.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson
from multidict import CIMultiDict
from yarl import URL

from app.core.events import Json

from . import answers, extract, templates
from .credentials import Credentials
from .csvfile import CsvTable
from .dialects import Csv, GraphQL, Rest, Soap, Sql, Web
from .failures import Failed
from .http import Answer, HttpRequest
from .method import ActionDef, Output
from .parts import own_address
from .schemes import Auth
from .sql import SqlTable
from .templates import BadValue, Values
from .tokens import Grant
from .values import TooBig, WrongType, convert

Body = Callable[[Values], bytes]
_NO_CREDENTIALS: Final = Credentials()
_SOAP: Final = {"1.1": "text/xml; charset=utf-8", "1.2": "application/soap+xml; charset=utf-8"}
_PASSING: Final = frozenset({502, 503, 504})
_ADDRESS: Final = re.compile(r"^(https?://[A-Za-z0-9.\-\[\]:]+|\{\{\s*(base_url|settings\.\w+)\s*\}\})(?=[/?])")


class Prepared:
    """One action, ready. Raises `ValueError` when the credentials it names are missing or lack what its scheme needs."""

    def __init__(self, definition: ActionDef, credentials: Mapping[str, Credentials]) -> None:
        self.definition = definition
        try:
            access = _access(definition, credentials)
            self._settings = access.chosen(definition.settings)
            self.grant = Grant(definition.auth, access, self._settings) if definition.auth.oauth2 else None
            self.table = _table(definition, access)
        except ValueError as error:
            credential = definition.auth.credentials
            of = f"the credentials {credential!r}: " if credential in credentials else ""
            raise ValueError(f"{definition.name}: {of}{error}") from error
        self._parameters = tuple((name, p.type, p.required, None if p.required else p.value) for name, p in definition.parameters.items())
        self._names = frozenset(definition.parameters)
        self._decode = answers.reader(definition.request)
        loose = isinstance(definition.request, Soap | Sql | Csv)
        self.attributes = tuple(output.attribute(name, loose) for name, output in definition.response.items() if output.path)
        fixed = {"base_url": access.base_url, "settings": self._settings}
        self._derived = tuple((name, _derived(output, fixed)) for name, output in definition.response.items() if output.template)
        self._has_answer = bool(definition.response) or isinstance(definition.request, GraphQL | Soap)
        self.errors_too = isinstance(definition.request, Soap)
        self.proof: dict[str, str] = {}
        self.origins = [self.grant.url.origin()] if self.grant else []
        self._absent = frozenset(definition.request.absent) if isinstance(definition.request, Rest) else frozenset()
        self.redirects = definition.request.redirects if isinstance(definition.request, Rest) else 0
        if isinstance(definition.request, Web):
            self._prepare_web(definition.request, access)

    def values(self, params: Mapping[str, Any], request_id: str = "request", call_id: str = "call") -> dict[str, Any]:
        """What fills the templates; raises `BadValue`. A required string must not be empty: a search without its term finds everybody."""
        if not params.keys() <= self._names:
            raise BadValue(f"there is no parameter {sorted(params.keys() - self._names)[0]!r}")
        values: dict[str, Any] = {"settings": self._settings, "request_id": request_id, "call_id": call_id}
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

    def request(self, params: Mapping[str, Any], request_id: str = "request", call_id: str = "call") -> HttpRequest:
        """The HTTP request for these parameters; raises `BadValue`."""
        values = self.values(params, request_id, call_id)
        address = self._base + self._address(values)
        query = [(name, text) for name, text in [(name, make(values)) for name, make in self._query] if text]
        query.extend(self._secret_query)
        if query:
            address += "?" + urlencode(query, quote_via=quote)
        headers = self._fixed.copy()
        for name, make in self._headers:
            headers[name] = _header(name, make(values))
        return HttpRequest(self.definition.request.method, URL(address, encoded=True), headers, self._body(values) if self._body else None)

    def outcome(self, answer: Answer) -> dict[str, Json]:
        """The response attributes in an answer; raises `Failed`."""
        try:
            if answer.status == 204 or answer.status in self._absent:
                return self.read(None)
            body = _success(answer)
            return self.read(self._decode(body) if self._has_answer else None)
        except extract.Malformed as error:
            raise Failed("malformed", str(error)) from error

    def read(self, document: Json) -> dict[str, Json]:
        """The response attributes in a document; raises `Failed`."""
        try:
            found = extract.read(document, self.attributes)
            for name, make in self._derived:
                found[name] = make(found)
        except TooBig as error:
            raise Failed("too_big", str(error)) from error
        except (extract.Malformed, BadValue) as error:
            raise Failed("malformed", str(error)) from error
        return found

    def _prepare_web(self, request: Web, access: Credentials) -> None:
        names, auth, run = self.definition.names, self.definition.auth, self.definition.run
        own = own_address(request.url)
        self._base = access.base_url if request.based else request.url.removesuffix(own)
        self._address = templates.address(own, names)
        self.origins.append(URL(self._base).origin())
        fields = request.query.items() if isinstance(request, Rest) else ()
        self._query = [(name, templates.text(source, names)) for name, source in fields]
        self._headers = [(name, templates.text(source, names)) for name, source in request.headers.items()]
        if run.once == "key":
            self._headers.append((run.idempotency_header, templates.text(run.key, names)))
        self._body, kind = _body(request, names)
        self._fixed = CIMultiDict({"Accept": "application/json", "Accept-Encoding": "identity"})
        if kind:
            self._fixed["Content-Type"] = kind
        if isinstance(request, Soap):
            self._fixed["Accept"] = "text/xml, application/soap+xml"
            if request.version == "1.1":
                self._fixed["SOAPAction"] = f'"{request.action}"'
        self.proof, self._secret_query = _proof(auth, access)
        self._fixed.update(self.proof)


def _access(definition: ActionDef, credentials: Mapping[str, Credentials]) -> Credentials:
    """The credentials that an action names; raises `ValueError` where they are missing or lack something."""
    name, scheme, request = definition.auth.credentials, definition.auth.scheme, definition.request
    if not name:
        return _NO_CREDENTIALS
    if name not in credentials:
        raise ValueError(f"there are no credentials named {name!r}; there are: {', '.join(sorted(credentials)) or 'none'}")
    access = credentials[name]
    lacking = access.lacks(scheme)
    if lacking:
        raise ValueError(f"{lacking}, which {scheme} needs")
    if isinstance(request, Web) and request.based and not access.base_url:
        raise ValueError("there is no base_url")
    if isinstance(request, Sql) and not access.secret("database"):
        raise ValueError("there is no database")
    return access


def _table(definition: ActionDef, access: Credentials) -> SqlTable | CsvTable | None:
    request = definition.request
    if isinstance(request, Sql):
        return SqlTable(request, access.secret("database"), definition.run.concurrency)
    return CsvTable(request, definition.folder, definition.names) if isinstance(request, Csv) else None


def _body(request: Web, names: set[str]) -> tuple[Body | None, str]:
    """What makes the body, and its content type."""
    if isinstance(request, GraphQL):
        variables, query = templates.body(request.variables, names), request.query
        return lambda values: orjson.dumps({"query": query, "variables": variables(values)}), "application/json"
    if isinstance(request, Soap):
        envelope, kind = templates.xml(request.envelope, names), _SOAP[request.version]
        action = f'; action="{request.action}"' if request.version == "1.2" and request.action else ""
        return lambda values: envelope(values).encode(), kind + action
    assert isinstance(request, Rest)
    if request.form is not None:
        form = [(name, templates.text(source, names)) for name, source in request.form.items()]
        return lambda values: urlencode([(name, make(values)) for name, make in form]).encode(), "application/x-www-form-urlencoded"
    if request.body is None:
        return None, ""
    body = templates.body(request.body, names)
    return lambda values: orjson.dumps(body(values)), "application/json"


def _proof(auth: Auth, access: Credentials) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The headers and the query that show who asks, where they never change."""
    if auth.scheme in ("basic", "bearer"):
        return {"Authorization": access.header(auth.scheme)}, ()
    if auth.scheme != "api_key":
        return {}, ()
    key = auth.prefix + access.secret("api_key")
    return ({auth.name: key}, ()) if auth.place == "header" else ({}, ((auth.name, key),))


def _derived(output: Output, fixed: Mapping[str, Any]) -> Callable[[Mapping[str, Json]], Json]:
    """What makes an attribute of the other ones."""
    names = templates.names_of(output.template)
    start = _ADDRESS.match(output.template)
    if start:
        prefix = templates.text(start[0], names)
        rest = templates.address(output.template[start.end() :], names)
    else:
        prefix, rest = (lambda values: ""), templates.text(output.template, names)
    needed = [name for name in names if "." not in name and name != "base_url"]

    def make(found: Mapping[str, Json]) -> Json:
        values = {**fixed, **found}
        if any(values[name] in ("", None) for name in needed):
            return output.default or ""
        return prefix(values).rstrip("/") + rest(values) if start else rest(values)

    return make


def _header(name: str, value: str) -> str:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise BadValue(f"the header {name!r} would hold a control character")
    return value


def _success(answer: Answer) -> bytes:
    """The body of an answer that is a success, or may tell in its body why it is none; raises `Failed`."""
    status = answer.status
    if 200 <= status < 300 or (answer.body is not None and status == 500):
        return answer.body or b""
    at_fault = status >= 500 or status == 429 or status < 400
    wait = _seconds(answer.headers.get("Retry-After", "")) if status in (429, 503) else None
    raise Failed("status", f"HTTP {status}", status in _PASSING, at_fault, wait)


def _seconds(retry_after: str) -> float | None:
    """How long to wait; None where it does not say so in seconds or as a date."""
    text = retry_after.strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
