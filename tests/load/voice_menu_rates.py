"""How well a menu by voice hears: every phrase, by every voice, over lines good and bad, and as many other things that callers say.

`python -m tests.load.voice_menu_rates` prints what was understood for what was said, and how often other words were taken for one of the
menu. The voices are flite's and espeak-ng's; a person's is that of Asterisk's own recordings, where its tree is there. A minute or two.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import product, repeat
from multiprocessing import get_context
from pathlib import Path

from app.demo.bots.hearing import Listening, hear
from tests.voices import LINES, VOICES, on_line, recorded, spoken

MENU = ("track my order", "pay my invoice", "make a complaint", "talk to an agent")
OTHERS = tuple(
    """hello|what|yes|no|maybe tomorrow|banana|I do not know|I would like a pizza with cheese|tell me the weather|elephant
my grandmother lives in the village|seven|forty two|help me|umbrella|telephone|the quick brown fox jumps over the lazy dog
can you hear me|I don't understand|electricity|television|Monday|November|excuse me|hospital|restaurant|good morning|who are you
never mind|computer|history|celebrate|opera|livery|in voice over|elevator|comparison|August|border|pigeon|airplane|university
what did you say|wait a moment please|how are you today|the train leaves at nine|chocolate|potato|mountain|dinosaur|refrigerator""".replace(
        "\n", "|"
    ).split("|")
)
"""Everyday words and sentences, some of them nearly like a phrase of the menu."""
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
PERSON_SAYS = {
    **{f"digits/day-{n}": day for n, day in enumerate(_DAYS)},
    **{f"digits/mon-{n}": month for n, month in ((0, "january"), (1, "february"), (8, "september"), (9, "october"), (10, "november"))},
    **{name: name.replace("-", " ") for name in ("extension", "activated", "call-waiting", "call-forwarding", "hello-world", "goodbye")},
}
"""Recordings of a person that say nothing but this."""
PERSON_VOICE = "usr/share/asterisk/sounds/en_US_f_Allison"


class Rates:
    """What was understood (nothing, where it was none of the menu) for what was said."""

    def __init__(self, menu: tuple[str, ...]) -> None:
        self.menu = menu
        self.heard: Counter[tuple[str, str]] = Counter()

    def right(self) -> float:
        """Of those who said something of the menu, the share who were understood."""
        return self._share(lambda said: said in self.menu, lambda said, heard: said == heard)

    def mistaken(self) -> float:
        """Of those who said something of the menu, the share who were taken to say another thing of it."""
        return self._share(lambda said: said in self.menu, lambda said, heard: heard not in ("", said))

    def false(self) -> float:
        """Of those who said something else, the share who were taken to say something of the menu."""
        return self._share(lambda said: said not in self.menu, lambda said, heard: heard != "")

    def _share(self, who: Callable[[str], bool], what: Callable[[str, str], bool]) -> float:
        them = {each: n for each, n in self.heard.items() if who(each[0])}
        return sum(n for each, n in them.items() if what(*each)) / sum(them.values())

    def table(self) -> Iterator[str]:
        """A line for each that was said, other words together, a column for each that was understood."""
        yield f"{'said':>20}" + "".join(f"{heard or 'none of it':>18}" for heard in (*self.menu, ""))
        rows: Counter[tuple[str, str]] = Counter()
        for (said, heard), n in self.heard.items():
            rows[said if said in self.menu else "other words", heard] += n
        for said in (*self.menu, "other words"):
            yield f"{said:>20}" + "".join(f"{rows[said, heard] or '.':>18}" for heard in (*self.menu, ""))
        yield f"understood {self.right():.1%}, mistaken {self.mistaken():.1%}; other words taken for the menu {self.false():.1%}"


def understand(sound: bytes, menu: tuple[str, ...]) -> str:
    """What a menu by voice takes the sound of a line for."""
    listening = Listening()
    return hear(listening.feed(sound) or listening.said(), menu)


def measure(said: Iterable[tuple[str, bytes]], menu: tuple[str, ...], ears: Executor) -> Rates:
    """What is understood of each."""
    rates, words, sounds = Rates(menu), *zip(*said, strict=True)
    rates.heard.update(zip(words, ears.map(understand, sounds, repeat(menu), chunksize=8), strict=True))
    return rates


def by_machines(voices: Iterable[str], lines: Iterable[str], others: Iterable[str] = OTHERS) -> Iterator[tuple[str, bytes]]:
    """The menu and other words by each of these voices over each of these lines."""
    for voice, line, text in product(voices, lines, (*MENU, *others)):
        yield text, on_line(spoken(text, voice), line)


def by_a_person(tree: Path, line: str) -> Iterator[tuple[str, bytes]]:
    """What Asterisk's recordings of a person say, with others that say more than a word."""
    for name, text in PERSON_SAYS.items():
        yield text, on_line(recorded(tree / f"{name}.gsm"), line)
    for path in sorted(tree.glob("vm-*.gsm")):
        yield path.stem, on_line(recorded(path), line)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="How well a menu by voice hears.")
    parser.parse_args()
    with ProcessPoolExecutor(2, get_context("spawn")) as ears:
        for line in LINES:
            print(f"\n{line} line, {len(VOICES)} voices", *measure(by_machines(VOICES, [line]), MENU, ears).table(), sep="\n")
        tree = Path(os.environ.get("CALLWRIGHT_PBX_ROOT", "/var/cache/callwright/asterisk"), PERSON_VOICE)
        for line in LINES if tree.is_dir() else ():
            last = list(measure(by_a_person(tree, line), tuple(PERSON_SAYS.values()), ears).table())[-1]
            print(f"\na person, {line} line, a menu of {len(PERSON_SAYS)} words and phrases", last, sep="\n")


if __name__ == "__main__":
    main()
