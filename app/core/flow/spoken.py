"""Values as words in the language of the call: what a phrase of a kind of its own (`money:12.50 EUR`) is to be spoken as.

    digits:4711#                  each digit and key by itself
    characters:AB-12              each letter and digit by itself
    number:-1200.5                a number, up to 15 digits before the point
    date:2026-07-03               a day; of a date with a time, the day
    time:15:05                    a time of day; of a date with a time, the time as it is written there
    money:12.50 EUR               an amount, rounded to cents, of EUR, USD, GBP, CHF, or of another currency by its letters
    de:Für Deutsch, Taste zwei    a text in a language of its own, whatever that of the call is

`spoken` gives media: `text:` for what is to be spoken, a language (`de:`) for what is to be spoken in that, `sound:` as it came. A value
that is none of its kind raises `Unreadable`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from app.core.flow import numerals
from app.core.flow.numerals import cardinal, words

LANGUAGES: Final = ("en", "de", "es")
KINDS: Final = ("sound", "digits", "characters", "number", "date", "time", "money", *LANGUAGES)
MAX_CHARACTERS = 80

_MONTHS: Final = {
    "en": words("January February March April May June July August September October November December"),
    "de": words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember"),
    "es": words("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"),
}
_KEYS: Final = {
    "en": {"*": "star", "#": "pound", ".": "dot", "-": "dash", "/": "slash", "+": "plus", "@": "at", "_": "underscore"},
    "de": {"*": "Stern", "#": "Raute", ".": "Punkt", "-": "Strich", "/": "Schrägstrich", "+": "plus", "@": "at", "_": "Unterstrich"},
    "es": {"*": "asterisco", "#": "almohadilla", ".": "punto", "-": "guion", "/": "barra", "+": "más", "@": "arroba", "_": "guion bajo"},
}
_AND: Final = {"en": "and", "de": "und", "es": "con"}
_POINT: Final = {"en": "point", "de": "Komma", "es": "coma"}
_MINUS: Final = {"en": "minus", "de": "minus", "es": "menos"}
_MONEY: Final = {
    "en": {
        "EUR": ("euro", "euros", "cent", "cents"),
        "USD": ("dollar", "dollars", "cent", "cents"),
        "GBP": ("pound", "pounds", "penny", "pence"),
        "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    },
    "de": {
        "EUR": ("Euro", "Euro", "Cent", "Cent"),
        "USD": ("Dollar", "Dollar", "Cent", "Cent"),
        "GBP": ("Pfund", "Pfund", "Penny", "Pence"),
        "CHF": ("Franken", "Franken", "Rappen", "Rappen"),
    },
    "es": {
        "EUR": ("euro", "euros", "céntimo", "céntimos"),
        "USD": ("dólar", "dólares", "centavo", "centavos"),
        "GBP": ("libra", "libras", "penique", "peniques"),
        "CHF": ("franco suizo", "francos suizos", "céntimo", "céntimos"),
    },
}
_FEMININE: Final = ("libra", "libras")
_NUMBER: Final = re.compile(r"([+-]?)(\d{1,15})(?:\.(\d{1,9}))?")
_AMOUNT: Final = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,15}))? ?([A-Z]{3})")
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ].*)?")
_TIME: Final = re.compile(r"(?:\d{4}-\d\d-\d\d[T ])?(\d{1,2}):(\d\d)(?::\d\d.*)?(?:Z|[+-]\d\d:?\d\d)?")


class Unreadable(ValueError):
    """A value that cannot be read as its kind. The message does not hold the value."""


def spoken(item: str, language: str) -> tuple[str, ...]:
    """A phrase with its values as media in a language, one of `LANGUAGES`; raises `Unreadable`."""
    kind, _, value = item.partition(":")
    if kind in ("digits", "characters"):
        return tuple(f"text:{each}" for each in _each(kind, value.strip(), language))
    if kind in _READERS:
        return (f"text:{_READERS[kind](value.strip(), language)}",)
    return (item,)


def text_in(item: str, language: str) -> tuple[str, str] | None:
    """What is spoken for one of the media in a call of this language, and in which; None for a recording."""
    kind, _, text = item.partition(":")
    return (text, language) if kind == "text" else (text, kind) if kind in LANGUAGES else None


def alphabet(kind: str, language: str) -> list[str]:
    """Every text that a phrase of this kind may need, where they are few: those of `digits` and `characters`."""
    letters = "abcdefghijklmnopqrstuvwxyz" if kind == "characters" else ""
    return [_one(each, language) for each in f"0123456789*#{letters}"] if kind in ("digits", "characters") else []


def _each(kind: str, value: str, language: str) -> list[str]:
    if len(value) > MAX_CHARACTERS or (kind == "digits" and not re.fullmatch(r"[0-9*#]*", value)):
        raise Unreadable(f"not {kind}, or more than {MAX_CHARACTERS}")
    return [_one(each, language) for each in value if not each.isspace()]


def _one(character: str, language: str) -> str:
    if character in "0123456789":
        return cardinal(int(character), language)
    return _KEYS[language].get(character, character.upper())


def _number(value: str, language: str) -> str:
    found = _NUMBER.fullmatch(value)
    if found is None:
        raise Unreadable("not a number")
    sign, whole, decimals = found.groups()
    said = [_MINUS[language]] if sign == "-" else []
    said.append(cardinal(int(whole), language))
    if decimals:
        said += [_POINT[language], *(cardinal(int(digit), language) for digit in decimals)]
    return " ".join(said)


def _money(value: str, language: str) -> str:
    found = _AMOUNT.fullmatch(value)
    if found is None:
        raise Unreadable("not an amount and a currency, such as 12.50 EUR")
    sign, whole, decimals, currency = found.groups()
    thousandths = int(f"{decimals or ''}000"[:3])
    amount, cents = divmod(int(whole) * 100 + (thousandths + 5) // 10, 100)
    letters = " ".join(currency)
    one, many, cent, several = _MONEY[language].get(currency, (letters, letters, "", ""))
    parts = [_counted(amount, one, many, language)] if amount or not cents else []
    if cents and cent:
        parts.append(_counted(cents, cent, several, language))
    elif cents:
        parts = [f"{_number(f'{amount}.{cents:02d}', language)} {letters}"]
    said = f" {_AND[language]} ".join(parts)
    return f"{_MINUS[language]} {said}" if sign and (amount or cents) else said


def _counted(n: int, one: str, many: str, language: str) -> str:
    form = numerals.FEMININE if one in _FEMININE else numerals.BEFORE_A_NOUN
    of = " de" if language == "es" and n >= 1_000_000 and n % 1_000_000 == 0 else ""
    return f"{cardinal(n, language, form)}{of} {one if n == 1 else many}"


def _date(value: str, language: str) -> str:
    found = _DATE.fullmatch(value)
    year, month, day = (int(each) for each in found.groups()) if found else (0, 0, 0)
    if not (1 <= month <= 12 and 1 <= day <= _days(year, month)):
        raise Unreadable("not a day, such as 2026-07-03")
    name = _MONTHS[language][month - 1]
    if language == "de":
        return f"{numerals.german_ordinal(day)} {name} {numerals.german_year(year)}"
    if language == "es":
        return f"{'primero' if day == 1 else cardinal(day, language)} de {name} de {cardinal(year, language)}"
    return f"{name} {numerals.english_ordinal(day)}, {numerals.english_year(year)}"


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _time(value: str, language: str) -> str:
    found = _TIME.fullmatch(value)
    hour, minute = (int(each) for each in found.groups()) if found else (99, 0)
    if hour > 23 or minute > 59:
        raise Unreadable("not a time of day, such as 15:05")
    if language == "de":
        return f"{cardinal(hour, 'de', numerals.BEFORE_A_NOUN)} Uhr{f' {cardinal(minute, language)}' if minute else ''}"
    twelve = hour % 12 or 12
    if language == "es":
        part = (
            "de la madrugada"
            if 1 <= hour < 6
            else "de la mañana"
            if 6 <= hour < 12
            else "de la tarde"
            if 12 <= hour < 20
            else "de la noche"
        )
        minutes = f" y {cardinal(minute, language)}" if minute else ""
        return f"{'la' if twelve == 1 else 'las'} {cardinal(twelve, language, numerals.FEMININE)}{minutes} {part}"
    minutes = f" {'oh ' if minute < 10 else ''}{cardinal(minute, language)}" if minute else ""
    return f"{cardinal(twelve, language)}{minutes} {'a.m.' if hour < 12 else 'p.m.'}"


_READERS: Final[dict[str, Callable[[str, str], str]]] = {"number": _number, "money": _money, "date": _date, "time": _time}
