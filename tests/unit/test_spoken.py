"""Values read in the language of the call: numbers, dates, times, money, digits, letters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.flow.numerals import LIMIT, cardinal
from app.core.flow.spoken import LANGUAGES, Unreadable, alphabet, spoken

READ = [
    ("number:0", "zero", "null", "cero"),
    ("number:1", "one", "eins", "uno"),
    ("number:21", "twenty-one", "einundzwanzig", "veintiuno"),
    ("number:100", "one hundred", "einhundert", "cien"),
    ("number:101", "one hundred one", "einhunderteins", "ciento uno"),
    ("number:1001", "one thousand one", "eintausendeins", "mil uno"),
    ("number:31000", "thirty-one thousand", "einunddreißigtausend", "treinta y un mil"),
    ("number:1000000", "one million", "eine Million", "un millón"),
    ("number:2000000001", "two billion one", "zwei Milliarden eins", "dos mil millones uno"),
    ("number:-3.05", "minus three point zero five", "minus drei Komma null fünf", "menos tres coma cero cinco"),
    ("money:12.50 EUR", "twelve euros and fifty cents", "zwölf Euro und fünfzig Cent", "doce euros con cincuenta céntimos"),
    ("money:1.01 EUR", "one euro and one cent", "ein Euro und ein Cent", "un euro con un céntimo"),
    ("money:0.2 GBP", "twenty pence", "zwanzig Pence", "veinte peniques"),
    ("money:201 GBP", "two hundred one pounds", "zweihundertein Pfund", "doscientas una libras"),
    ("money:900.0 USD", "nine hundred dollars", "neunhundert Dollar", "novecientos dólares"),
    ("money:19.999 EUR", "twenty euros", "zwanzig Euro", "veinte euros"),
    ("money:1000000 EUR", "one million euros", "eine Million Euro", "un millón de euros"),
    ("money:-0.00 EUR", "zero euros", "null Euro", "cero euros"),
    ("money:5.25 NOK", "five point two five N O K", "fünf Komma zwei fünf N O K", "cinco coma dos cinco N O K"),
    (
        "date:2026-07-01",
        "July first, twenty twenty-six",
        "ersten Juli zweitausendsechsundzwanzig",
        "primero de julio de dos mil veintiséis",
    ),
    ("date:2024-02-29T08:00", "February twenty-ninth, twenty twenty-four", "neunundzwanzigsten Februar zweitausendvierundzwanzig", None),
    (
        "date:1990-03-12",
        "March twelfth, nineteen ninety",
        "zwölften März neunzehnhundertneunzig",
        "doce de marzo de mil novecientos noventa",
    ),
    ("date:2007-01-20", "January twentieth, two thousand seven", "zwanzigsten Januar zweitausendsieben", None),
    ("time:00:00", "twelve a.m.", "null Uhr", "las doce de la noche"),
    ("time:13:05", "one oh five p.m.", "dreizehn Uhr fünf", "la una y cinco de la tarde"),
    ("time:2026-07-01T01:30:10+02:00", "one thirty a.m.", "ein Uhr dreißig", "la una y treinta de la madrugada"),
]


@pytest.mark.parametrize(("phrase", *LANGUAGES), READ, ids=[row[0] for row in READ])
def test_a_value_is_read_in_each_language(phrase: str, en: str, de: str, es: str | None) -> None:
    assert spoken(phrase, "en") == (f"text:{en}",)
    assert spoken(phrase, "de") == (f"text:{de}",)
    assert es is None or spoken(phrase, "es") == (f"text:{es}",)


def test_digits_and_characters_are_read_one_by_one_and_are_known_beforehand() -> None:
    assert spoken("digits:40#", "en") == ("text:four", "text:zero", "text:pound")
    assert spoken("digits: 1*", "de") == ("text:eins", "text:Stern")
    assert spoken("characters:a-1 B", "es") == ("text:A", "text:guion", "text:uno", "text:B")
    assert {"text:" + text for text in alphabet("characters", "de")} >= set(spoken("characters:a1B#", "de"))
    assert alphabet("money", "de") == []


def test_texts_and_sounds_stay_as_they_are() -> None:
    assert spoken("text:number:5", "de") == ("text:number:5",)
    assert spoken("sound:beep", "de") == ("sound:beep",)


WRONG = [
    "number:five",
    "number:",
    "number:1e5",
    "number:1234567890123456",
    "money:12,50 EUR",
    "money:13.70",
    "money:EUR 1",
    "date:2026-02-30",
]
WRONG += ["date:01.02.2026", "date:2026-13-01", "time:24:00", "time:12:60", "time:noon", "digits:12a", f"digits:{'1' * 81}", "number:²"]


@pytest.mark.parametrize("phrase", WRONG)
def test_what_is_none_of_its_kind_is_refused_and_not_repeated(phrase: str) -> None:
    with pytest.raises(Unreadable) as refused:
        spoken(phrase, "en")
    assert len(phrase.partition(":")[2]) < 4 or phrase.partition(":")[2] not in str(refused.value)


@given(st.integers(0, LIMIT - 1), st.integers(0, LIMIT - 1), st.sampled_from(LANGUAGES))
def test_two_numbers_never_sound_alike(one: int, other: int, language: str) -> None:
    assert (cardinal(one, language) == cardinal(other, language)) == (one == other)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_first_numbers_all_sound_different(language: str) -> None:
    assert len({cardinal(n, language) for n in range(30_000)}) == 30_000
