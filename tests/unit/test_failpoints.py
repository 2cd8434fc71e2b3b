"""Failpoints do nothing unless asked, and then kill at exactly the n-th thing of that type."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.failpoints import armed

PROGRAM = """
from app.failpoints import armed
passing = armed({"CALLWRIGHT_FAILPOINT": "after_persist:str:2"})
for point, things in (("before_persist", ["a", "b"]), ("after_persist", [1, "a"]), ("after_persist", [2])):
    passing(point, things)
print("two of each", flush=True)
passing("after_persist", ["b"])
print("not reached")
"""


def test_without_the_variable_there_is_nothing_to_call() -> None:
    assert armed({}) is None
    assert armed({"CALLWRIGHT_FAILPOINT": ""}) is None


@pytest.mark.parametrize("text", ["sometimes:Play", "after_persist", "after_persist::2", "after_persist:Play:0", "after_persist:Play:two"])
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CALLWRIGHT_FAILPOINT is"):
        armed({"CALLWRIGHT_FAILPOINT": text})


def test_the_process_dies_at_the_nth_thing_and_not_before() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-9, "two of each\n"), done.stderr
