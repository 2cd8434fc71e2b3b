"""Whether the watchdog could act: Asterisk answers to the user and password of its settings. Exit status 0 or 1."""

from __future__ import annotations

import base64
import os
import sys
import urllib.request
from pathlib import Path

from app.watchdog import read_settings


def main(config: Path) -> int:
    """Ask Asterisk once."""
    settings = read_settings(config, os.environ)
    request = urllib.request.Request(f"{settings.ari_url}/ari/asterisk/info?only=status")
    token = base64.b64encode(f"{settings.ari_user}:{settings.ari_password}".encode()).decode()
    request.add_header("Authorization", f"Basic {token}")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5):
            return 0
    except OSError as error:
        print(f"Asterisk does not answer to the watchdog: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
