"""What each recording is expected to become, kept beside it: one event a line, as `app.core.record` packs it.

`python -m tests.replay.expect NAME ...` shows how that differs from what comes out now, `--write` accepts it. Without a name: all.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from app.core.events import Event
from app.core.record import pack
from tests.replay.tape import RECORDINGS, names, play, read


def file_of(name: str) -> Path:
    """Where a scenario's expectation is kept."""
    return RECORDINGS / f"{name}.expected.json"


def written(events: Sequence[Event]) -> str:
    """Events as the file has them."""
    return "[\n" + ",\n".join(json.dumps(pack(event)) for event in events) + "\n]\n"


def difference(name: str) -> str:
    """How what comes out now differs from what is expected; empty when it does not."""
    expected = file_of(name).read_text() if file_of(name).exists() else ""
    now = written(play(read(name)).events)
    return "\n".join(difflib.unified_diff(expected.splitlines(), now.splitlines(), "expected", "now", lineterm=""))


def main() -> None:
    """Show, or accept."""
    parser = argparse.ArgumentParser(description="what the recordings are expected to become")
    parser.add_argument("name", nargs="*", help="scenarios; all, when none is named")
    parser.add_argument("--write", action="store_true", help="accept what comes out now")
    asked = parser.parse_args()
    unknown = sorted(set(asked.name) - set(names()))
    if unknown:
        sys.exit(f"not recorded: {', '.join(unknown)}")
    for name in asked.name or names():
        change = difference(name)
        print(f"== {name}: {'as expected' if not change else 'accepted' if asked.write else 'differs'}\n{change}".rstrip())
        if asked.write and change:
            file_of(name).write_text(written(play(read(name)).events))


if __name__ == "__main__":
    main()
