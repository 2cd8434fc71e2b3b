"""Whole numbers as words in English, German and Spanish: cardinals up to 15 digits, ordinals of days, years."""

from __future__ import annotations

from typing import Final

COUNTING: Final = ""
BEFORE_A_NOUN: Final = "noun"
"""`ein Euro`, `un euro`: before a masculine or neuter noun."""
FEMININE: Final = "feminine"
"""`una libra`, `doscientas libras`."""
LIMIT: Final = 10**15


def words(text: str) -> tuple[str, ...]:
    """The words of a line."""
    return tuple(text.split())


_EN: Final = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_EN_TENS: Final = words("- - twenty thirty forty fifty sixty seventy eighty ninety")
_EN_SCALES: Final = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"))
_EN_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}

_DE: Final = words(
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn"
)
_DE_TENS: Final = words("- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_DE_SCALES: Final = ((10**12, "Billion", "Billionen"), (10**9, "Milliarde", "Milliarden"), (10**6, "Million", "Millionen"))
_DE_ORDINALS: Final = {1: "ersten", 3: "dritten", 7: "siebten", 8: "achten"}

_ES: Final = words(
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete dieciocho diecinueve "
    "veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho veintinueve"
)
_ES_TENS: Final = words("- - - treinta cuarenta cincuenta sesenta setenta ochenta noventa")
_ES_HUNDREDS: Final = words("- ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos")


def cardinal(n: int, language: str, form: str = COUNTING) -> str:
    """A number from 0 on, below `LIMIT`, in words; `form` is how it stands before what it counts."""
    if not 0 <= n < LIMIT:
        raise ValueError(f"{n} is not between 0 and {LIMIT}")
    if language == "de":
        return _german(n, form)
    return _spanish(n, form) if language == "es" else _english(n)


def _english(n: int) -> str:
    said = []
    for scale, name in _EN_SCALES:
        if n >= scale:
            said.append(f"{_english(n // scale)} {name}")
            n %= scale
    if n >= 100:
        said.append(f"{_EN[n // 100]} hundred")
        n %= 100
    if n or not said:
        said.append(_EN[n] if n < 20 else _EN_TENS[n // 10] + (f"-{_EN[n % 10]}" if n % 10 else ""))
    return " ".join(said)


def english_ordinal(n: int) -> str:
    """`third`, `twenty-first`; below a hundred."""
    head, dash, last = _english(n).rpartition("-")
    return head + dash + (_EN_ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"))


def english_year(year: int) -> str:
    """`twenty twenty-six`, `two thousand six`, `nineteen oh five`."""
    century, rest = divmod(year, 100)
    if year < 1000 or (century % 10 == 0 and rest < 10):
        return _english(year)
    return f"{_english(century)} {'hundred' if rest == 0 else f'oh {_english(rest)}' if rest < 10 else _english(rest)}"


def _german(n: int, form: str) -> str:
    said = []
    for scale, one, many in _DE_SCALES:
        if n >= scale:
            count = n // scale
            said.append(f"eine {one}" if count == 1 else f"{_german_thousands(count)} {many}")
            n %= scale
    if n or not said:
        said.append(_german_thousands(n) + ("s" if form == COUNTING and n % 100 == 1 else ""))
    return " ".join(said)


def _german_thousands(n: int) -> str:
    """Below a million, with `ein` at its end for a one."""
    if n >= 1000:
        return f"{_german_thousands(n // 1000)}tausend{_german_thousands(n % 1000) if n % 1000 else ''}"
    if n >= 100:
        return f"{_DE[n // 100]}hundert{_german_thousands(n % 100) if n % 100 else ''}"
    if n < 20:
        return _DE[n]
    return (f"{_DE[n % 10]}und" if n % 10 else "") + _DE_TENS[n // 10]


def german_ordinal(n: int) -> str:
    """`dritten`, as after `am`, `den` or `zum`; below a hundred."""
    return _DE_ORDINALS.get(n) or f"{_german_thousands(n)}{'ten' if n < 20 else 'sten'}"


def german_year(year: int) -> str:
    """`neunzehnhundertneunzig`, `zweitausendsechsundzwanzig`."""
    century, rest = divmod(year, 100)
    if 11 <= century <= 19:
        return f"{_DE[century]}hundert{_german(rest, COUNTING) if rest else ''}"
    return _german(year, COUNTING)


def _spanish(n: int, form: str) -> str:
    said = []
    if n >= 10**12:
        said.append("un billón" if n // 10**12 == 1 else f"{_spanish_thousands(n // 10**12, BEFORE_A_NOUN)} billones")
        n %= 10**12
    if n >= 10**6:
        said.append("un millón" if n // 10**6 == 1 else f"{_spanish_thousands(n // 10**6, BEFORE_A_NOUN)} millones")
        n %= 10**6
    if n or not said:
        said.append(_spanish_thousands(n, form))
    return " ".join(said)


def _spanish_thousands(n: int, form: str) -> str:
    """Below a million."""
    said = []
    if n >= 1000:
        thousands = n // 1000
        said.append("mil" if thousands == 1 else f"{_spanish_hundreds(thousands, form or BEFORE_A_NOUN)} mil")
        n %= 1000
    if n or not said:
        said.append(_spanish_hundreds(n, form))
    return " ".join(said)


def _spanish_hundreds(n: int, form: str) -> str:
    if n == 100:
        return "cien"
    if n > 100:
        hundreds = _ES_HUNDREDS[n // 100]
        if form == FEMININE and n >= 200:
            hundreds = f"{hundreds[:-2]}as"
        return hundreds + (f" {_spanish_hundreds(n % 100, form)}" if n % 100 else "")
    said = _ES[n] if n < 30 else _ES_TENS[n // 10] + (f" y {_ES[n % 10]}" if n % 10 else "")
    if not said.endswith("uno") or form == COUNTING:
        return said
    if form == FEMININE:
        return f"{said[:-3]}una"
    return "veintiún" if said == "veintiuno" else f"{said[:-3]}un"
