"""Recordings between a misbehaving ARI server, the adapter, the shelf and a mail server."""

from __future__ import annotations

import array
import asyncio
import io
import os
import signal
import sys
import time
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.channels.mail import Mailer, MailSettings
from app.channels.shelf import DAY, NotThere, Shelf, seconds_of_sound
from app.core import commands as do
from app.core import events as ev
from app.core.view import LiveCall
from app.pbx.ari import AriNotFound
from app.store import Store
from tests.contract.doors import Posted
from tests.contract.fake_ari import FakeAri, Rule
from tests.contract.test_ari import CHANNEL, fake, house, until
from tests.contract.test_mail import catching

__all__ = ["fake"]
CALL = "a" * 32
NAME = f"{CALL}-rc1"


def sound(*parts: tuple[float, int]) -> bytes:
    """A WAV file of square waves: seconds and amplitude of each part."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        for seconds, loud in parts:
            file.writeframes(array.array("h", [loud if n // 4 % 2 else -loud for n in range(round(seconds * 8000))]).tobytes())
    return out.getvalue()


# ---- the adapter ----------------------------------------------------------------------------------------------------------


async def test_a_caller_is_recorded_and_the_file_is_fetched_and_deleted(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        name = f"{call}-rc1"
        h.pbx.carry_out(do.StartRecord(call, name, 20, 3, "#"))
        await until(lambda: name in fake.recordings)
        assert fake.asked("POST", "channels/.*/record")[0].query == {
            "name": name,
            "format": "wav",
            "maxDurationSeconds": "20",
            "maxSilenceSeconds": "3",
            "ifExists": "fail",
            "beep": "true",
            "terminateOn": "#",
        }
        h.pbx.carry_out(do.StartRecord(call, name, 20, 3, "#"))
        await fake.recorded(name, b"what was said")
        assert await h.next(ev.RecordingEnded) == ev.RecordingEnded(call, name, "", 3)
        assert await h.pbx.recordings.fetch(name) == b"what was said"
        await h.pbx.recordings.drop(name)
        await h.pbx.recordings.drop(name)
        assert not fake.stored
        with pytest.raises(AriNotFound):
            await h.pbx.recordings.fetch(name)
        assert len(h.of(ev.RecordingEnded)) == 1


async def test_a_caller_in_a_bridge_leaves_it_to_be_recorded(fake: FakeAri) -> None:
    async with house(fake) as h:
        call, leg = await h.ringing()
        await fake.end(leg, 17)
        await h.next(ev.LegEnded)
        h.pbx.carry_out(do.StartRecord(call, f"{call}-rc1", 20, 3))
        await until(lambda: fake.recordings)
        assert fake.bridges[f"{call}-br1"]["channels"] == []
        await fake.recorded(f"{call}-rc1")
        h.pbx.carry_out(do.RingAgent(call, f"{call}-leg2", f"{call}-br1", "102", 20.0))
        await until(lambda: fake.asked("POST", f"channels/{call}-leg2/dial"))
        assert fake.bridges[f"{call}-br1"]["channels"] == [CHANNEL, f"{call}-leg2"], "and is back in it for the next agent"


@pytest.mark.parametrize("how", ["failed", "refused", "taken", "silent"])
async def test_a_recording_that_cannot_be_says_so_once(fake: FakeAri, how: str) -> None:
    async with house(fake) as h:
        call = await h.caller()
        name = f"{call}-rc1"
        if how == "refused":
            fake.rules.append(Rule("POST", "channels/.*/record", 500, b'{"message": "no"}'))
        elif how == "taken":
            fake.stored[name] = b"another's"
        elif how == "silent":
            fake.rules.append(Rule("POST", "channels/.*/record", silent=True, times=1))
        h.pbx.carry_out(do.StartRecord(call, name, 20, 3))
        if how == "failed":
            await until(lambda: name in fake.recordings)
            await fake.recorded(name, failed=True)
        assert await h.next(ev.RecordingEnded, within=10) == ev.RecordingEnded(call, name, "failed")


async def test_a_recording_that_is_stopped_before_it_began_never_begins_and_one_that_ends_is_waited_for_to_be_deleted(
    fake: FakeAri,
) -> None:
    async with house(fake) as h:
        call = await h.caller()
        h.pbx.carry_out(do.Play(call, f"{call}-pb1", ("sound:long",)))
        await until(lambda: fake.asked("POST", "channels/.*/play/.*"))
        h.pbx.carry_out(do.StartRecord(call, f"{call}-rc1", 20, 3))
        h.pbx.carry_out(do.StopRecord(call, f"{call}-rc1"))
        assert await h.next(ev.RecordingEnded) == ev.RecordingEnded(call, f"{call}-rc1", "never_was")
        await h.next(ev.PlaybackEnded)
        h.pbx.carry_out(do.StartRecord(call, f"{call}-rc2", 20, 3))
        await until(lambda: fake.recordings)
        assert list(fake.recordings) == [f"{call}-rc2"]
        dropping = asyncio.create_task(h.pbx.recordings.drop(f"{call}-rc2"))
        await until(lambda: fake.asked("GET", f"recordings/live/{call}-rc2"))
        await fake.recorded(f"{call}-rc2", b"what was said")
        await dropping
        assert not fake.stored


async def test_a_caller_who_hangs_up_ends_the_recording_which_is_told(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        h.pbx.carry_out(do.StartRecord(call, f"{call}-rc1", 20, 3))
        await until(lambda: fake.recordings)
        await fake.end(CHANNEL)
        await h.next(ev.RecordingEnded)
        assert [type(each) for each in h.posted[-2:]] == [ev.CallerLeft, ev.RecordingEnded]


async def test_nobody_is_recorded_who_has_left(fake: FakeAri) -> None:
    async with house(fake) as h:
        h.pbx.carry_out(do.StartRecord(CALL, NAME, 20, 3))
        assert await h.next(ev.RecordingEnded) == ev.RecordingEnded(CALL, NAME, "failed")


@pytest.mark.parametrize("bad", [do.StartRecord(CALL, "../etc", 20, 3), do.StartRecord(CALL, NAME, 20, 3, "1,2")])
async def test_what_must_not_reach_asterisk_does_not(fake: FakeAri, bad: do.StartRecord) -> None:
    await fake.arrive(CHANNEL, tell=False, state="Up")
    async with house(fake, LiveCall(CALL, CHANNEL, True)) as h:
        h.pbx.carry_out(bad)
        await h.next(ev.RecordingEnded) if bad.recording in h.pbx.book.recordings else None
        assert not fake.asked("POST", "channels/.*/record")


@pytest.mark.parametrize(("where", "reason"), [("live", None), ("stored", ""), ("nowhere", "never_was")])
async def test_a_new_process_finds_what_became_of_a_recording(fake: FakeAri, where: str, reason: str | None) -> None:
    await fake.arrive(CHANNEL, tell=False, state="Up")
    if where == "live":
        fake.recordings[NAME] = CHANNEL
    elif where == "stored":
        fake.stored[NAME] = b"RIFF"
    async with house(fake, LiveCall(CALL, CHANNEL, True, recordings=(NAME,))) as h:
        await h.next(ev.CallFound)
        if reason is None:
            assert not h.of(ev.RecordingEnded)
            await fake.recorded(NAME)
            reason = ""
        assert await h.next(ev.RecordingEnded) == ev.RecordingEnded(CALL, NAME, reason, 3 if where == "live" else -1)
        assert len(h.of(ev.RecordingEnded)) == 1


async def test_a_number_is_dialled_through_a_trunk_and_nothing_else_is(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        h.pbx.carry_out(do.RingOutside(call, f"{call}-leg1", f"{call}-br1", "carrier", "+4930123456", 20.0))
        await until(lambda: fake.asked("POST", f"channels/{call}-leg1/dial"))
        assert fake.asked("POST", "channels/create")[0].query["endpoint"] == "PJSIP/+4930123456@carrier"
        for n, (trunk, number) in enumerate([("carrier", "1&PJSIP/2"), ("carrier", "12@evil"), ("a/b", "123"), ("carrier", "1" * 21)], 2):
            h.pbx.carry_out(do.RingOutside(call, f"{call}-leg{n}", f"{call}-br1", trunk, number, 20.0))
            assert (await h.next(ev.LegEnded, n - 1)).leg == f"{call}-leg{n}"
        assert len(fake.asked("POST", "channels/create")) == 1


# ---- the shelf ------------------------------------------------------------------------------------------------------------


class Asterisk:
    """Where the shelf fetches from: one recording, or why there is none."""

    def __init__(self, content: bytes | Exception) -> None:
        self.content, self.forgotten, self.stored = content, list[str](), list[str]()

    async def fetch(self, name: str) -> bytes:
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    async def forget(self, name: str) -> None:
        if isinstance(self.content, Exception):
            raise self.content
        self.forgotten.append(name)
        self.stored = [each for each in self.stored if each != name]

    async def strays(self) -> list[str]:
        if isinstance(self.content, Exception):
            raise self.content
        return list(self.stored)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Where the calls' keys are."""
    opened = await Store.open(f"sqlite+aiosqlite:///{tmp_path}/callwright.db", tmp_path / "callwright.key")
    yield opened
    await opened.close()


def shelf(directory: Path, asterisk: Asterisk, store: Store) -> tuple[Shelf, Posted]:
    posted = Posted()
    return Shelf(directory / "recordings", posted, asterisk.fetch, asterisk.forget, asterisk.strays, store.vault), posted


def on(directory: Path) -> list[str]:
    """The names of the files on the shelf."""
    return sorted(path.name for path in (directory / "recordings").iterdir())


async def test_what_is_kept_is_sealed_for_its_owner_alone_and_measured(tmp_path: Path, store: Store) -> None:
    asterisk = Asterisk(sound((1.0, 0), (0.5, 4000), (1.0, 20)))
    one, posted = shelf(tmp_path, asterisk, store)
    one.carry_out(do.KeepRecording(CALL, "r1", NAME))
    kept = await posted.event()
    assert (kept.request, kept.voiced) == ("r1", pytest.approx(0.5, abs=0.05))
    path = tmp_path / "recordings" / f"{NAME}.sealed"
    assert (on(tmp_path), path.stat().st_mode & 0o777) == ([path.name], 0o600)
    assert isinstance(asterisk.content, bytes)
    assert b"RIFF" not in path.read_bytes()
    assert asterisk.content[5000:5032] not in path.read_bytes()
    assert await one.read(NAME) == asterisk.content
    assert asterisk.forgotten == []
    one.carry_out(do.KeepRecording(CALL, "r2", NAME, move=True))
    await posted.event()
    assert asterisk.forgotten == [NAME]
    one.carry_out(do.DropRecording(CALL, NAME))
    await until(lambda: not path.exists() and len(asterisk.forgotten) == 2)
    await one.close()


@pytest.mark.parametrize(
    ("error", "reason"), [(AriNotFound("gone", 404), "missing"), (OSError("no line"), "unreachable"), (TimeoutError(), "unreachable")]
)
async def test_what_cannot_be_fetched_is_lost(tmp_path: Path, store: Store, error: Exception, reason: str) -> None:
    one, posted = shelf(tmp_path, Asterisk(error), store)
    one.carry_out(do.KeepRecording(CALL, "r1", NAME))
    assert await posted.event() == ev.RecordingLost(CALL, "r1", reason)
    assert not (tmp_path / "recordings").exists()


@pytest.mark.parametrize("trouble", ["folder", "store"])
async def test_what_cannot_be_written_is_said_and_stays_in_asterisk(tmp_path: Path, store: Store, trouble: str) -> None:
    if trouble == "folder":
        (tmp_path / "recordings").write_text("not a folder")
    else:
        await store.close()
    asterisk = Asterisk(b"RIFF")
    one, posted = shelf(tmp_path, asterisk, store)
    one.carry_out(do.KeepRecording(CALL, "r1", NAME, move=True))
    assert await posted.event() == ev.RecordingLost(CALL, "r1", "disk")
    assert asterisk.forgotten == []


@pytest.mark.parametrize("name", ["../callwright.key", "a", f"{NAME}/../x", ""])
async def test_only_recordings_of_ours_are_on_the_shelf(tmp_path: Path, store: Store, name: str) -> None:
    one, _ = shelf(tmp_path, Asterisk(b"RIFF"), store)
    with pytest.raises(NotThere):
        await one.read(name)


async def test_what_is_too_old_is_deleted(tmp_path: Path, store: Store) -> None:
    one, _ = shelf(tmp_path, Asterisk(b"RIFF"), store)
    await one.read(NAME)
    await one.read(f"{CALL}-rc2")
    old = time.time() - 91 * DAY
    os.utime(tmp_path / "recordings" / f"{NAME}.sealed", (old, old))
    assert await one.prune(90) == 1
    assert on(tmp_path) == [f"{CALL}-rc2.sealed"]


async def test_what_a_crash_left_in_asterisk_is_brought_to_the_shelf(tmp_path: Path, store: Store, fake: FakeAri) -> None:
    async with house(fake) as h:
        live = await h.caller()
        fake.stored = {NAME: sound((0.5, 3000)), f"{live}-rc1": b"RIFF", "somebody-elses": b"RIFF"}
        one = Shelf(tmp_path / "recordings", h._post, h.pbx.recordings.fetch, h.pbx.recordings.drop, h.pbx.recordings.stray, store.vault)
        assert await one.tidy(90) == 0
        assert list(fake.stored) == [f"{live}-rc1", "somebody-elses"]
        assert on(tmp_path) == [f"{NAME}.sealed"]
        fake.rules.append(Rule("GET", "recordings/stored", 500))
        assert await one.tidy(90) == 0, "and what cannot be asked for changes nothing"


async def test_a_recording_of_a_forgotten_call_can_be_read_nowhere_and_is_deleted_everywhere(tmp_path: Path, store: Store) -> None:
    asterisk = Asterisk(sound((0.5, 3000)))
    one, _ = shelf(tmp_path, asterisk, store)
    await one.read(NAME)
    await one.read(f"{'b' * 32}-rc1")
    copy = (tmp_path / "recordings" / f"{NAME}.sealed").read_bytes()
    asterisk.stored = [NAME, f"{CALL}-rc2", f"{'b' * 32}-rc1"]
    assert await one.drop_calls({CALL}) == (2, True)
    assert (on(tmp_path), asterisk.stored) == ([f"{'b' * 32}-rc1.sealed"], [f"{'b' * 32}-rc1"])
    await store.forget(CALL)
    (tmp_path / "recordings" / f"{NAME}.sealed").write_bytes(copy)
    with pytest.raises(NotThere, match="missing"):
        await one.read(NAME)
    asterisk.stored = [f"{CALL}-rc3"]
    assert await one.tidy(90) == 1, "a copy that somebody put back"
    assert (on(tmp_path), asterisk.stored) == ([f"{'b' * 32}-rc1.sealed"], [])
    asterisk.content = OSError("no line")
    assert await one.drop_calls({"b" * 32}) == (1, False)


async def test_after_a_crash_nothing_is_left_that_is_not_sealed(tmp_path: Path, store: Store) -> None:
    """Written half, written by an earlier version, and written and not yet deleted in Asterisk; of a forgotten call nothing is sealed."""
    asterisk = Asterisk(sound((0.5, 3000)))
    one, _ = shelf(tmp_path, asterisk, store)
    await one.read(f"{'b' * 32}-rc1")
    await store.forget("b" * 32)
    folder = tmp_path / "recordings"
    (folder / f"{NAME}.0a1b.partial").write_bytes(b"half")
    (folder / f"{CALL}-rc2.wav").write_bytes(b"RIFF, said in the clear")
    (folder / f"{'b' * 32}-rc1.wav").write_bytes(b"RIFF, said in the clear")
    os.utime(folder / f"{CALL}-rc2.wav", (1e9, 1e9))
    await one.read(NAME)
    asterisk.stored = [NAME]

    again, _ = shelf(tmp_path, asterisk, store)
    await again.begin()
    assert on(tmp_path) == [f"{NAME}.sealed", f"{CALL}-rc2.sealed", f"{'b' * 32}-rc1.sealed"]
    assert not [path for path in folder.iterdir() if b"RIFF" in path.read_bytes()]
    assert await again.read(f"{CALL}-rc2") == b"RIFF, said in the clear"
    assert (folder / f"{CALL}-rc2.sealed").stat().st_mtime == 1e9, "it is as old as it was"
    await again.tidy(36_500)
    assert (asterisk.stored, on(tmp_path)) == ([], [f"{NAME}.sealed", f"{CALL}-rc2.sealed"])


DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from app.channels.shelf import Shelf
from app.core.commands import KeepRecording
from app.store import Store

home, name, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = await Store.open(f"sqlite+aiosqlite:///{home}/callwright.db", home / "callwright.key")
    plain = (home / name).read_bytes()
    async def fetch(_):
        return plain
    async def forget(_):
        die()
    shelf = Shelf(home / "recordings", print, fetch, forget, None, store.vault)
    await store.vault.seal(name.partition("-")[0], "the key is there", b"")
    if moment == "writing":
        os.fsync = die
    shelf.carry_out(KeepRecording(name.partition("-")[0], "r", name, move=True))
    await asyncio.sleep(30)

asyncio.run(main())
"""


@pytest.mark.parametrize(("moment", "left"), [("writing", ".partial"), ("written", ".sealed")])
async def test_kill_9_while_a_recording_is_moved_leaves_it_in_asterisk_until_the_next_start(tmp_path: Path, moment: str, left: str) -> None:
    asterisk = Asterisk(sound((0.5, 3000)))
    assert isinstance(asterisk.content, bytes)
    (tmp_path / NAME).write_bytes(asterisk.content)
    command = [sys.executable, "-c", DYING, str(tmp_path), NAME, moment]
    died = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[2])
    assert await asyncio.wait_for(died.wait(), 30) == -signal.SIGKILL
    (path,) = (tmp_path / "recordings").iterdir()
    assert path.suffix == left
    assert b"RIFF" not in path.read_bytes()

    asterisk.stored = [NAME]
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path}/callwright.db", tmp_path / "callwright.key")
    one, _ = shelf(tmp_path, asterisk, store)
    await one.begin()
    await one.tidy(90)
    assert (on(tmp_path), asterisk.stored) == ([f"{NAME}.sealed"], [])
    assert await one.read(NAME) == asterisk.content
    await store.close()


@pytest.mark.parametrize("content", [b"", b"RIFF", b"<html>", sound()])
def test_what_is_no_sound_has_none(content: bytes) -> None:
    assert seconds_of_sound(content) == 0.0


# ---- the mail -------------------------------------------------------------------------------------------------------------


async def test_a_recording_goes_with_its_mail_byte_by_byte(tmp_path: Path, store: Store) -> None:
    content = sound((1.0, 3000))
    one, _ = shelf(tmp_path, Asterisk(content), store)
    posted = Posted()
    async with catching(tmp_path / "mail") as (mailbox, port):
        mailer = Mailer(MailSettings(port=port), posted, one.read)
        mailer.carry_out(do.SendMail(CALL, f"{CALL}-ml1", "a@example.com", "A message", "Hear it.", attachment=NAME))
        assert await posted.event() == ev.MailSent(CALL, f"{CALL}-ml1")
        (found,) = mailbox.messages(1)
        assert (found["body"].strip(), found["attachments"]) == ("Hear it.", ["message.wav"])
        assert mailbox.attachment(found["id"], 0) == content
        assert mailbox.attachment(found["id"], 1) is None


@pytest.mark.parametrize(("error", "reason"), [(AriNotFound("gone", 404), "no_attachment"), (OSError("no line"), "unreachable")])
async def test_no_message_goes_without_its_recording(tmp_path: Path, store: Store, error: Exception, reason: str) -> None:
    one, _ = shelf(tmp_path, Asterisk(error), store)
    posted = Posted()
    async with catching(tmp_path / "mail") as (mailbox, port):
        Mailer(MailSettings(port=port), posted, one.read).carry_out(do.SendMail(CALL, "r", "a@example.com", "s", "b", attachment=NAME))
        assert await posted.event() == ev.MailFailed(CALL, "r", reason)
        assert len(mailbox) == 0
