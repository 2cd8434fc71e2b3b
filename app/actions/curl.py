"""A curl line as the draft of an action: its address, query and body become parameters, its secrets stay behind."""

from __future__ import annotations

import base64
import binascii
import shlex
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from yarl import URL

from .draft import BadSource, Draft, origin_of, snake, templated

_DATA: Final = ("-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--data-urlencode", "--json")
_WITH_VALUE: Final = (
    "-o",
    "--output",
    "-A",
    "--user-agent",
    "-m",
    "--max-time",
    "--connect-timeout",
    "-e",
    "--referer",
    "--retry",
    "-b",
    "-c",
)
_DROPPED: Final = ("accept", "content-type", "user-agent", "content-length", "host", "accept-encoding", "connection", "cookie")


def read_line(line: str, connector: str, method: str) -> Draft:
    """The draft of a curl line; raises `BadSource`."""
    verb, address, headers, data, user, as_query, as_json = _words(line)
    url = URL(address if "//" in address else f"http://{address}")
    if url.scheme not in ("http", "https") or not url.host or url.user:
        raise BadSource("expected an address that begins with http:// or https:// and names no user")
    parameters: dict[str, dict[str, str]] = {}
    values: dict[str, str] = {}
    auth, secrets = _auth(headers, user, connector)
    pairs = list(parse_qsl(url.raw_query_string, keep_blank_values=True)) + (parse_qsl("&".join(data)) if as_query else [])
    request: dict[str, Any] = {"kind": "rest", "method": verb, "url": "{{ base_url }}" + url.raw_path.replace("{", "%7B")}
    query = {name: templated(value, parameters, values, name) for name, value in pairs if value}
    kept = {name: value for name, value in headers.items() if name.lower() not in _DROPPED}
    if query:
        request["query"] = query
    if kept:
        request["headers"] = kept
    if data and not as_query:
        request |= _body("&".join(data) if not as_json else data[-1], parameters, values)
    if url.raw_path == "/" or not method:
        method = method or f"{verb.lower()}_{[part for part in url.path.split('/') if part and not part.isdecimal()][-1:] or ['root']}"
    base_url = origin_of(str(url))
    needs = ("base_url", *secrets)
    return Draft(connector, snake(method), request, parameters, values, auth, base_url, needs, base_url, secrets=secrets)


def _words(line: str) -> tuple[str, str, dict[str, str], list[str], str, bool, bool]:
    try:
        words = shlex.split(line.replace("\\\n", " "))
    except ValueError as error:
        raise BadSource(f"not a line of a shell: {error}") from None
    words = words[1:] if words and words[0] == "curl" else words
    verb, address, user, as_query, as_json = "", "", "", False, False
    headers: dict[str, str] = {}
    data: list[str] = []
    rest = iter(_apart(words))
    for word in rest:
        if word in ("-X", "--request"):
            verb = next(rest, "").upper()
        elif word in ("-H", "--header"):
            name, _, value = next(rest, "").partition(":")
            headers[name.strip()] = value.strip()
        elif word in _DATA:
            data.append(next(rest, ""))
            as_json = as_json or word == "--json"
        elif word in ("-u", "--user"):
            user = next(rest, "")
        elif word in ("-G", "--get"):
            as_query = True
        elif word in _WITH_VALUE:
            next(rest, "")
        elif word == "--url":
            address = next(rest, "")
        elif not word.startswith("-"):
            address = address or word
    if not address:
        raise BadSource("there is no address in the curl line")
    if any(text.startswith("@") for text in data):
        raise BadSource("a body from a file (@file) cannot be read: put it into the line")
    return verb or ("POST" if data and not as_query else "GET"), address, headers, data, user, as_query, as_json


def _apart(words: list[str]) -> list[str]:
    """`-XPOST` and `--request=POST` as two words."""
    found: list[str] = []
    for word in words:
        if word.startswith("--") and "=" in word:
            found.extend(word.split("=", 1))
        elif len(word) > 2 and word[0] == "-" and word[1] in "XHdu" and word[1] != "-":
            found.extend((word[:2], word[2:]))
        else:
            found.append(word)
    return found


def _auth(headers: dict[str, str], user: str, connector: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The scheme, and the secrets that the line had; headers that hold one are taken out."""
    authorization = next((headers.pop(name) for name in list(headers) if name.lower() == "authorization"), "")
    scheme, _, proof = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            user = base64.b64decode(proof, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise BadSource("the Authorization header is not one of basic") from None
    if user:
        name, _, password = user.partition(":")
        return {"scheme": "basic", "credentials": connector}, {"username": name, "password": password}
    if scheme.lower() == "bearer":
        return {"scheme": "bearer", "credentials": connector}, {"token": proof}
    if authorization:
        auth = {"scheme": "api_key", "credentials": connector, "name": "Authorization"} | ({"prefix": f"{scheme} "} if proof else {})
        return auth, {"api_key": proof or scheme}
    for name in list(headers):
        if any(word in name.lower() for word in ("key", "token", "secret", "auth")):
            return {"scheme": "api_key", "credentials": connector, "name": name}, {"api_key": headers.pop(name)}
    return {"scheme": "none", "credentials": connector}, {}


def _body(text: str, parameters: dict[str, dict[str, str]], values: dict[str, str]) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict | list):
        return {"body": templated(document, parameters, values)}
    pairs = parse_qsl(text, keep_blank_values=True)
    if not pairs:
        raise BadSource("the body is neither JSON nor a form")
    return {"form": {name: templated(value, parameters, values, name) for name, value in pairs}}
