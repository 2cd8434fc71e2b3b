"""Keys that Asterisk tells twice, as it told them (times in milliseconds, from real logs)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.pbx.keys import Keys

FAST = [
    (1, 418),
    (2, 549),
    (2, 564),
    (3, 685),
    (3, 715),
    (4, 815),
    (4, 864),
    (5, 951),
    (5, 1012),
    (6, 1086),
    (6, 1173),
    (7, 1220),
    (7, 1318),
]
FASTER = [(1, 218), (2, 298), (3, 378), (3, 424), (4, 459), (4, 550), (5, 551), (5, 676), (6, 677), (6, 803), (7, 805), (7, 929)]
SLOW = [(1, 702), (2, 986), (3, 1269), (4, 1553), (5, 1838), (6, 2121), (7, 2405)]
# A busy machine: what is told again comes a second late, and what was pressed meanwhile comes all at once.
LATE = [(7, 0, 2000), (9, 182), (9, 2047), (5, 2048), (5, 3193), (8, 3195), (8, 4340)]
BURST = [(6, 606), (2, 606), (2, 857), (8, 858), (8, 1107), (3, 1107), (3, 1718), (1, 1719), (1, 1964)]
SLOWLY_TOLD = [(1, 212), (2, 396), (8, 576), (8, 594)]
HELD = [(1, 14632, 5000), (5, 14817), (5, 19683), (9, 19683), (9, 19829), (7, 19832), (7, 19976), (7, 19977), (7, 20124), (3, 20126)]


SAME_KEY = [(7, 20), (7, 220), (7, 420), (4, 620), (4, 800)]
PLAYING = [(9, 1001), (7, 1001), (6, 1002), (9, 1002), (9, 1203), (0, 1404)]


def counted(told: Sequence[tuple[int, ...]], length: int, quiet: int) -> str:
    keys, out = Keys(), ""
    for digit, at, *own in told:
        if quiet < at:
            keys.prompt_ended(quiet / 1000)
            quiet = 10**9
        out += str(digit) if keys.counts(str(digit), (own[0] if own else length) / 1000, at / 1000) else ""
    return out


@pytest.mark.parametrize(
    ("told", "length", "quiet", "expected"),
    [
        (FAST, 100, 350, "1234567"),
        (FASTER, 60, 270, "1234567"),
        (SLOW, 200, 540, "1234567"),
        (HELD, 100, 11283, "159773"),
        (SLOWLY_TOLD, 100, 319, "128"),
        (LATE, 100, -260, "7958"),
        (BURST, 200, 10, "62831"),
    ],
)
def test_each_key_counts_once_although_told_twice(told: Sequence[tuple[int, ...]], length: int, quiet: int, expected: str) -> None:
    assert counted(told, length, quiet) == expected


def test_without_a_prompt_that_ended_in_a_press_every_key_counts() -> None:
    assert counted([(7, 100), (7, 200), (7, 300)], 50, 10) == "777"


def test_same_key_pressed_again_counts_again() -> None:
    assert counted(SAME_KEY, 100, -50) == "77744"


def test_what_was_pressed_over_a_prompt_is_not_put_off_however_fast_it_is_told() -> None:
    keys = Keys()
    assert "".join(str(key) for key, at in PLAYING if keys.counts(str(key), 0.1, at / 1000, playing=True)) == "976990"


def test_key_that_is_told_again_without_a_prompt_betrays_itself() -> None:
    assert counted([(1, 212), (2, 396), (8, 576), (8, 594), (8, 714)], 100, 10) == "1288"


def test_key_that_is_not_told_again_in_time_is_not_waited_for() -> None:
    told = [(1, 100), (7, 180), (7, 6000)]  # 7 was put off, and its repetition was due at 245
    assert counted(told, 100, 50) == "177"
