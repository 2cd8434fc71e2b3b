"""The bot that repeats what it hears, and does what keys tell it. To try a line with: `python -m app.demo.bots.echo PORT`.

Key 1 ends it by `agent`, where the step has that answer, key 2 by `done`, key 3 writes `ivr.echo`, key 4 drops what is still to be heard.
"""

from __future__ import annotations

from typing import Any

from app.demo.bots.server import Say, main


class Echo:
    """One call."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def told(self, message: dict[str, Any]) -> None:
        if message["type"] == "key":
            wish = {
                "1": {"type": "done", "exit": "agent"},
                "2": {"type": "done"},
                "3": {"type": "set", "values": {"ivr.echo": "heard you"}},
                "4": {"type": "flush"},
            }.get(message["digit"])
            if wish:
                self._say(wish)

    def heard(self, sound: bytes) -> None:
        self._say(sound)


if __name__ == "__main__":
    main(Echo, "Repeats what it hears.")
