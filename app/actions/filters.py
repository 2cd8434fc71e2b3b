"""Filters of request templates: a caller's number in the ways that systems write it down, and text that must stay text in a query.

`{{ phone | forms }}` is a list for a search that compares whole values; `{{ phone | national }}` is for a search that ignores what
stands before the number. What an outsider sends reaches a query language only through `soql`, `odata` or `term`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat

_NOT_A_TERM: Final = re.compile(r"[^\w.@+-]+")


class NotFit(ValueError):
    """A value that a filter cannot work with; the message names no value."""


def digits(text: str) -> str:
    """Nothing but the digits; raises `NotFit` when there are none, since a search for nothing finds everybody."""
    found = "".join(letter for letter in text if letter in "0123456789")
    if not found:
        raise NotFit("expected a telephone number, found no digit")
    return found


def national(phone: str) -> str:
    """The digits without country code and trunk prefix, such as 4155550123; all digits of a number that is not E.164."""
    number = _parsed(phone)
    return phonenumbers.national_significant_number(number) if number else digits(phone)


def forms(phone: str) -> list[str]:
    """The number in each way that people and systems write it, E.164 first; only digits, spaces, + ( ) - . and / occur in them."""
    number = _parsed(phone)
    if number is None:
        return [digits(phone)]
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    at_home = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    abroad = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
    written = (e164, digits(e164), digits(at_home), national(phone), at_home, abroad)
    return list(dict.fromkeys(re.sub(r"[^0-9+()./ -]", "", form) for form in written))


def soql(text: str) -> str:
    """Text for between the quotes of a SOQL query."""
    return text.replace("\\", "\\\\").replace("'", "\\'").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")


def odata(text: str) -> str:
    """Text for between the quotes of an OData query."""
    return text.replace("'", "''")


def term(text: str) -> str:
    """One word of a search, without the characters that a search language gives a meaning to; raises `NotFit` when nothing is left."""
    found = _NOT_A_TERM.sub("", text)
    if not found:
        raise NotFit("expected letters or digits to search for")
    return found


def whole(text: str) -> int:
    """The whole number that a text of digits is, for systems whose ids are numbers."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise NotFit("expected a whole number")
    return int(text)


def guid(text: str) -> str:
    """32 hexadecimal digits, such as the id of a call, as a GUID."""
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text.replace("-", "")):
        raise NotFit("expected 32 hexadecimal digits")
    plain = text.replace("-", "").lower()
    return "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "digits": digits,
    "national": national,
    "forms": forms,
    "soql": soql,
    "odata": odata,
    "term": term,
    "whole": whole,
    "guid": guid,
}


def _parsed(phone: str) -> PhoneNumber | None:
    if not phone.startswith("+"):
        return None
    try:
        number = phonenumbers.parse(phone)
    except NumberParseException:
        return None
    return number if phonenumbers.is_possible_number(number) else None
