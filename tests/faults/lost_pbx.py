"""B7: Asterisk dies with a caller in each step that waits for something; every call is closed once as lost, no agent is stuck, and those
who were to be called back are called back once.
"""

from __future__ import annotations

import socket
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.carrier import allow, far_phone, set_up
from tests.e2e.house import PREMIUM, UNKNOWN, LiveHouse
from tests.e2e.variant import project
from tests.faults import language_points, outside_points
from tests.faults.case import CALLER_TONE, Case, ended_as, ready, start
from tests.phones import Caller, free_port, until

AT = {
    "confirm": (UNKNOWN, "1131", "right"),
    "wait_for": (UNKNOWN, "1132", "hold"),
    "language, hours, set, switch, subflow": (UNKNOWN, "1134", "ask.type"),
    "bot": (UNKNOWN, "1137", "talk"),
    "transfer": (outside_points.NUMBER, "1110", "out"),
    "callback": (outside_points.NUMBER, "1120", "ask"),
    "voicemail": (outside_points.NUMBER, "1100", "take"),
    "sms": (UNKNOWN, "1135", "text"),
    "automation": (PREMIUM, "1136", "answer"),
    "gather": (PREMIUM, "1133", "ask"),
}
"""Who waits where: the number that calls, the number called, and the step. Those who wait for a few seconds only come last."""
FREE_WITHIN = 5.0


def asterisk_dies(house: LiveHouse) -> dict[str, Any]:
    """Besides those in `AT`, two have booked a callback: for one an agent is there while the customer's phone rings, one waits."""
    pbx, port = house.installation.pbx(house.say.append), free_port()
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        _start(house, stack, silent.getsockname()[1])
        set_up(house, port)
        far = far_phone(port, ring=None)
        stack.callback(far.close)
        stack.enter_context(house.agent_phone("103", ring=0.3, ready=False))
        dialling, waiting = _books(house, stack), _books(house, stack)
        house.tell("103", "ready")
        until(lambda: far.heard_of("invite"), 10, "the customer's phone to ring")
        house.crm_fault("slow", 7.5)
        stack.callback(house.crm_fault, "off")
        calls = {name: _calls(house, stack, *what) for name, what in AT.items()}
        for name, (_, _, step) in AT.items():
            until(lambda name=name, step=step: house.call(calls[name])["step"] == step, 10, f"{name} to be at {step}")  # type: ignore[misc]
        assert house.call(dialling)["state"] == "dialling"

        pbx.kill()
        until(lambda: not ready(house), 5, "the loss to be noticed")
        far.close()
        house.crm_fault("off")
        again = stack.enter_context(far_phone(port, ring=0.3, talk=0.5))
        pbx.start()
        pbx.wait_ready()
        until(lambda: ready(house), 15, "the application to be ready again")
        began = time.monotonic()
        for call in calls.values():
            ended_as(house, call, "lost_media_server")
        until(lambda: house.agent("103")["presence"] == "ready", FREE_WITHIN, "the agent to be free, and not blamed")
        freed = time.monotonic() - began
        until(partial(_called_back, house, dialling, waiting), 60, lambda: f"both to be called back: {house.agent('103')}")
        for call in (*calls.values(), dialling, waiting):
            assert sum(entry["type"] == "CallEnded" for entry in house.timeline(call)) == 1
        tries = {call: [e["left"] for e in house.timeline(call) if e["type"] == "CallbackTried"] for call in (dialling, waiting)}
        assert tries == {dialling: [2], waiting: []}
        assert len(again.sipp.logged("invite")) == 2, "each is called back once"
    house.check()
    return {"freed_after": round(freed, 2)}


def _start(house: LiveHouse, stack: ExitStack, gateway: int) -> None:
    """The application, with the flows of the kill points, and a gateway for messages that never answers."""
    if house.installation.pid("application") is not None:
        house.kill()
    flows = {**language_points.FLOWS, "message": outside_points.MESSAGE, "outside": outside_points.OUTSIDE, "back": outside_points.BACK}
    folder = project(Path(tempfile.mkdtemp(prefix="lost-")), **flows)
    allow(folder)
    environment = language_points.surroundings(house, stack)
    start(house, **{**environment, "CALLWRIGHT_PROJECT": str(folder), "CALLWRIGHT_SMS__URL": f"http://127.0.0.1:{gateway}/"})


def _calls(house: LiveHouse, stack: ExitStack, number: str, dial: str, step: str) -> str:
    """A caller, who is at the step or on the way to it; the call. Nobody will answer the phone's BYE."""
    before = {row["id"] for row in house.calls()}
    phone = Caller(house.installation.ports.sip, dial, number=number)
    stack.callback(phone.close)
    (new,) = until(lambda: {row["id"] for row in house.calls()} - before, 10, "the call to arrive")  # type: ignore[misc]
    if step == "talk":
        until(lambda: phone.rtp.hears(CALLER_TONE), 15, "the bot's echo")
    return str(new)


def _books(house: LiveHouse, stack: ExitStack) -> str:
    """A caller who is to be called back; the call."""
    before = {row["id"] for row in house.calls()}
    phone = Caller(house.installation.ports.sip, "1120", number=outside_points.NUMBER)
    stack.callback(phone.close)
    (new,) = until(lambda: {row["id"] for row in house.calls()} - before, 10, "the call to arrive")  # type: ignore[misc]
    until(phone.rtp.hears_anything, 10, "the offer")
    phone.rtp.press("1")
    phone.wait_for("released", 15)
    return str(new)


def _called_back(house: LiveHouse, *calls: str) -> bool:
    """Whether these calls were; the agent does not linger over what there is to write down."""
    hand = house.agent("103")["hand"]
    if hand and hand["phase"] == "wrap_up":
        with suppress(OSError):  # it may be over by now
            house.tell("103", "wrap-up-done", call=hand["call"], disposition="test", remarks="")
    rows = [house.ended(call) for call in calls]
    return all(row is not None and row["outcome"] == "called_back" for row in rows)


CASES = [Case("B7/in each step", asterisk_dies)]
