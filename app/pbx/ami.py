"""AMI: what ARI does not tell or do: the state of agents' phones, callers brought back from the fallback, queue_log lines.

AMI is never the source of truth about a call. While the link is down phones keep their last known state and calls go on;
after each connect the states are listed anew, and only differences are told.

A phone's state is the **device state** of its endpoint, which Asterisk works out from registration, contacts and their
qualification, and from every channel of it:

    UNAVAILABLE, INVALID, UNKNOWN       not reachable: nothing is registered, or what is registered does not answer
    INUSE, BUSY, RINGING, ONHOLD, ..    reachable and in use, whosever call it is: legs of ours too, and the core, which
                                        knows its own work, must not take them for somebody else's
    NOT_INUSE                           reachable and free

Single contacts are not looked at: `ContactStatus` calls a contact usable before it has answered its first OPTIONS, and their list
wants the `system` permission, with which the AMI user could load modules.

What the AMI user needs in manager.conf: `read = call`, `write = call,reporting,agent`, and it may have
`eventfilter(action(include),name(DeviceStateChange)) =`, which spares both sides the events of every call. `call` redirects,
`reporting` lists, `agent` writes queue_log. That `call` could redirect any channel to anywhere is why contexts and channels are
checked here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import structlog
from panoramisk.message import Message

from app.core.commands import Command, QueueLog
from app.core.events import AgentPhoneChanged
from app.pbx.hardening import ActionRefused, AmiLink, LinkLost, without_controls

log = structlog.get_logger()

Post: TypeAlias = Callable[[AgentPhoneChanged], None]

DEADLINE = 2.0
"""Seconds for the answer to one action."""
LIST_DEADLINE = 5.0
"""Seconds for a whole list."""
PROBE_EVERY = 3.0
"""Seconds between probes of a quiet link: with DEADLINE, silence is noticed within 5 s."""
BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each further attempt to connect; the last one for ever."""

FALLBACK = "callwright-fallback"
"""The context in which callers wait whom the dialplan or the watchdog took from us."""
RETURN = "callwright-return"
"""The context that leads back into the application, at extension `s`."""
KEPT = ("CW_DNIS", "CW_QUEUE", "CW_FIRST_ENQUEUE", "CW_PRIORITY")
RELEASED = "CW_RELEASED"
"""Set on a caller whom a flow gave back for good; such a one is not brought back."""
"""Variables that a caller carries for us through the fallback."""

_TECHNOLOGY = "PJSIP/"
_IN_USE = frozenset({"INUSE", "BUSY", "RINGING", "RINGINUSE", "ONHOLD"})
_REACHABLE = _IN_USE | {"NOT_INUSE"}

_OUR_CONTEXT = re.compile(r"callwright-[a-z-]+")
_EXTEN = re.compile(r"[A-Za-z0-9*#_-]{1,40}")
_CHANNEL = re.compile(r"[A-Za-z0-9]+/[^\s,&|]{1,200}")
_QUEUE_EVENT = re.compile(r"[A-Z]{2,40}")


class NotWaiting(Exception):
    """The channel does not wait in the fallback (any more): it has gone, or somebody talks to it."""


class Ami:
    """The AMI link, for as long as `run()` runs. `agents` maps the endpoint of each agent's phone to the agent's id."""

    def __init__(self, host: str, port: int, user: str, secret: str, post: Post, agents: Mapping[str, str]) -> None:
        self._host, self._port, self._user, self._secret = host, port, user, secret
        self._post = post
        self._agents = {_TECHNOLOGY + endpoint: agent for endpoint, agent in agents.items()}
        self._states: dict[str, str] = {}  # device -> state, in Asterisk's words
        self._told: dict[str, AgentPhoneChanged] = {}
        self._since_list: list[tuple[str, str]] | None = None  # what happened while a list is awaited
        self._link: AmiLink | None = None
        self._woken = asyncio.Event()
        self._why = "not connected yet"
        self._lines_lost = 0

    # ---- the link -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, and again whenever the link ends, until cancelled. A new reason is logged once."""
        attempt = 0
        while True:
            why = "cancelled"
            try:
                await self._one_link()
            except (OSError, ActionRefused) as error:
                why = _reason(error)
            finally:
                was_up, self._link = self._link is not None, None
                if was_up or why != self._why:
                    log.warning("ami_down", why=why, host=self._host, port=self._port)
                self._why = why
            attempt = 0 if was_up else attempt
            await asyncio.sleep(BACKOFF[min(attempt, len(BACKOFF) - 1)])
            attempt += 1

    async def _one_link(self) -> None:
        """One link from its greeting to its end; ends by raising the reason."""
        self._woken.clear()
        link = await self._connect()
        try:
            await link.ask("Login", DEADLINE, Username=self._user, Secret=self._secret, Events="call")
            await self._list_phones(link)
            self._link, self._why = link, ""
            log.info("ami_up", host=self._host, port=self._port, version=link.version)
            await self._knock(link)
            while True:
                await link.ask("Ping", DEADLINE)
                try:
                    async with asyncio.timeout(PROBE_EVERY):
                        await self._woken.wait()  # the link has ended, and the next Ping says why
                except TimeoutError:
                    pass
        finally:
            self._since_list = None
            link.end("closed by us", after_all_is_said=True)
            self._lines_lost += link.refused

    async def _connect(self) -> AmiLink:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DEADLINE):
                _, link = await loop.create_connection(lambda: AmiLink(self._heard, self._woken.set), self._host, self._port)
        except TimeoutError:
            raise LinkLost(f"no connection within {DEADLINE:g} s") from None
        return link

    def health(self) -> dict[str, Any]:
        """`{"ok", "why", "phones", "reachable", "queue_log_lost"}`."""
        reachable = sum(told.reachable for told in self._told.values())
        lost = self._lines_lost + (self._link.refused if self._link else 0)
        return {"ok": self._link is not None, "why": self._why, "phones": len(self._agents), "reachable": reachable, "queue_log_lost": lost}

    def _up(self) -> AmiLink:
        if self._link is None:
            raise LinkLost(self._why)
        return self._link

    # ---- phones -------------------------------------------------------------------------------------------------------

    def _heard(self, event: dict[str, str]) -> None:
        device, state = event.get("Device", ""), event.get("State", "")
        if event["Event"] != "DeviceStateChange" or device not in self._agents:
            return
        if self._since_list is not None:
            self._since_list.append((device, state))
        else:
            self._tell(device, state)

    async def _list_phones(self, link: AmiLink) -> None:
        """Take every phone's state from lists, then what happened since they were asked for, in order; tell what differs."""
        self._since_list = []
        answers = await link.ask("DeviceStateList", LIST_DEADLINE, many=True)
        states = {item.device: item.state for item in answers if item.device in self._agents}
        for device in self._agents.keys() - states.keys():  # it lists what it has in its cache, which need not be all
            (answer,) = await link.ask("Getvar", DEADLINE, Variable=f"DEVICE_STATE({device})")
            states[device] = answer.value
            if answer.value == "INVALID":
                log.warning("ami_no_such_phone", device=device, agent=self._agents[device])
        states.update(self._since_list)
        self._since_list = None
        for device, state in sorted(states.items()):
            self._tell(device, state)

    async def _knock(self, link: AmiLink) -> None:
        """Have Asterisk ask the phones that it calls unreachable, now: after a start it would get round to them only bit by bit."""
        for device in [device for device, told in self._told.items() if not told.reachable]:
            try:
                await link.ask("PJSIPQualify", DEADLINE, Endpoint=device.removeprefix(_TECHNOLOGY))
            except ActionRefused as error:
                log.warning("ami_qualify_refused", device=device, why=str(error))

    def _tell(self, device: str, state: str) -> None:
        now = AgentPhoneChanged(self._agents[device], state in _REACHABLE, state in _IN_USE)
        if self._told.get(device) != now:
            self._told[device] = now
            self._post(now)

    # ---- callers in the fallback --------------------------------------------------------------------------------------

    async def anybody_in_fallback(self) -> bool:
        """Whether it is worth the while to ask who waits in the fallback: `waiting_in_fallback` has every channel listed.

        Raises as `waiting_in_fallback`.
        """
        (answer,) = await self._up().ask("Getvar", DEADLINE, Variable=f"QUEUE_WAITING_COUNT({FALLBACK})")
        return bool(answer.value not in ("", "0"))

    async def waiting_in_fallback(self) -> list[dict[str, str]]:
        """Callers who wait in the fallback and talk to nobody, those who waited longest first.

        Each as `channel` (its name, for `return_caller`), `uniqueid`, `linkedid`, `ani`, `name`, and, as far as the channel carries
        them, `dnis`, `queue`, `first_enqueue`, `priority`; what is not known is "". Raises LinkLost, TimeoutError, ActionRefused.
        """
        answers = await self._up().ask("Status", LIST_DEADLINE, many=True, Variables=",".join((*KEPT, RELEASED)))
        waiting = [item for item in answers if item.event == "Status" and _waits(item) and not _variables(item).get(RELEASED)]
        return [_waiting_caller(item) for item in sorted(waiting, key=lambda item: (-int(item.seconds or 0), item.uniqueid))]

    async def return_caller(self, channel: str) -> None:
        """Send a caller who still waits in the fallback back into the application. Raises NotWaiting besides what `redirect` raises."""
        try:
            answers = await self._up().ask("Status", DEADLINE, many=True, Channel=_channel(channel))
        except ActionRefused as error:
            raise NotWaiting(str(error)) from None
        if not any(item.event == "Status" and item.channel == channel and _waits(item) for item in answers):
            raise NotWaiting("it is not in the fallback, or somebody talks to it")
        await self.redirect(channel, RETURN, "s")

    async def redirect(self, channel: str, context: str, exten: str, priority: int = 1) -> None:
        """Send a channel to a place in a context of ours. ValueError for any other; ActionRefused (gone), LinkLost, TimeoutError."""
        if not _OUR_CONTEXT.fullmatch(context):
            raise ValueError(f"context {context!r}: only callwright-<a-z-> is redirected into")
        if not _EXTEN.fullmatch(exten) or priority < 1:
            raise ValueError(f"extension {exten!r}, priority {priority}: not a place in a dialplan")
        await self._up().ask("Redirect", DEADLINE, Channel=_channel(channel), Context=context, Exten=exten, Priority=str(priority))

    # ---- queue_log ----------------------------------------------------------------------------------------------------

    def handles(self, command: Command) -> bool:
        """Is this an order for AMI?"""
        return isinstance(command, QueueLog)

    def carry_out(self, command: QueueLog) -> None:
        """Have one line of queue_log written, stamped with the time of writing; returns at once, never raises.

        A line that could not be written is lost, and counted in `health()`: it is not worth a call's trouble.
        """
        try:
            if not _QUEUE_EVENT.fullmatch(command.event):
                raise ValueError(f"queue_log event {command.event!r}: 2 to 40 capital letters")
            self._up().tell(
                "QueueLog",
                Queue=_column(command.queue) or "NONE",
                Event=command.event,
                Uniqueid=_column(command.uniqueid) or "NONE",
                Interface=_column(command.agent) or "NONE",
                Message="|".join(_column(value) for value in command.values),
            )
        except (LinkLost, ValueError) as error:
            self._lines_lost += 1
            log.warning("queue_log_line_lost", call=command.call, why=_reason(error))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _channel(name: str) -> str:
    if not _CHANNEL.fullmatch(name):
        raise ValueError("not the name of a channel")
    return name


def _column(text: str) -> str:
    return without_controls(text.replace("|", " "), 100)


def _waits(status: Message) -> bool:
    return bool(status.context == FALLBACK and not status.bridgeid)


def _known(text: str) -> str:
    """Asterisk says `(null)` or `<unknown>` for what it does not know."""
    return "" if text in ("(null)", "<unknown>") else text


def _variables(status: Message) -> dict[str, str]:
    raw = status.variable
    pairs = (item.partition("=") for item in (raw if isinstance(raw, list) else [raw]))
    return {name: _known(value) for name, _, value in pairs}


def _waiting_caller(status: Message) -> dict[str, str]:
    """One `Status` event as `waiting_in_fallback` tells it."""
    variables = _variables(status)
    return {
        "channel": status.channel,
        "uniqueid": status.uniqueid,
        "linkedid": status.linkedid,
        "ani": _known(status.calleridnum),
        "name": _known(status.calleridname),
    } | {name.removeprefix("CW_").lower(): variables.get(name, "") for name in KEPT}
