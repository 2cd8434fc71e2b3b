"""The meaning of the steps that reach outside: recordings and messages, transfers, text messages. As those in `kinds.py`."""

from __future__ import annotations

from typing import Any

from app.publish.meaning import Context, Describe, Meaning, Read, asking

TO_BEGIN = 4.0
"""Seconds after which a bot that has not begun is given up."""
TO_KEEP = 15.0
"""Seconds in which a recording that has ended is told of and kept, at the latest."""


def _record(context: Context, name: str, node: Any) -> Meaning:
    recorded = {"sets": frozenset({f"vars.{node.into}"}), "act": "caller"}
    return Meaning(
        reads=context.spoken(name, node, "prompt"),
        exits=context.exits(name, node, recorded=recorded),
        wait="caller",
        seconds=context.longest(node.prompt) + node.seconds + TO_KEEP,
        says=bool(node.prompt) and context.sure(node.prompt),
        failures=("failed",),
        fails_of="the recording",
    )


def _voicemail(context: Context, name: str, node: Any) -> Meaning:
    reads: list[Read] = []
    for key in ("to", "subject", "body"):
        reads += context.text(getattr(node, key), ("steps", name, key), "message")
    takes: int = node.takes if node.review else 1
    return Meaning(
        reads=(*reads, *context.spoken(name, node, "prompt", "review", "mask")),
        exits=context.exits(name, node, left={"act": "caller", "person": True}),
        wait="caller",
        seconds=context.longest(node.prompt) + takes * (node.seconds + TO_KEEP + context.longest(node.review)) + node.budget,
        says=context.sure(node.prompt),
        failures=("nothing", "failed"),
        fails_of="the voicemail",
    )


def _transfer(context: Context, name: str, node: Any) -> Meaning:
    return Meaning(
        reads=context.text(node.to or "", ("steps", name, "to"), "number"),
        exits=context.exits(name, node, talked={"act": "person", "person": True}),
        wait="person",
        seconds=node.ring,
        failures=("no_answer", "busy", "failed"),
        fails_of="the transfer",
    )


def _callback(context: Context, name: str, node: Any) -> Meaning:
    """Who has a booking is in an agent's hands."""
    reads = [*context.text(node.number, ("steps", name, "number"), "number"), *context.texts(name, node, "attach", "attach", must=False)]
    if node.skills_from:
        reads.append(Read(node.skills_from, ("steps", name, "skills_from"), "skills"))
    by_key = {"act": "caller"}
    offers = [prompt for prompt in (node.prompt, node.prompt_later) if prompt]
    offer = max(map(context.longest, offers))
    again = max(context.longest(prompt) if prompt else offer for prompt in (node.retry_no_match, node.retry_no_input))
    if node.wish:
        reads += context.text(node.wish, ("steps", name, "wish"), "value")
    return Meaning(
        reads=(*reads, *context.spoken(name, node, "prompt", "prompt_later", "retry_no_match", "retry_no_input")),
        exits=context.exits(name, node, booked={**by_key, "person": True}, declined=by_key, no_input=by_key),
        wait="caller",
        seconds=offer + node.first_key + (node.tries - 1) * (again + node.first_key),
        says=all(map(context.sure, offers)),
        failures=("failed",),
        fails_of="the callback",
        empty=tuple(key for key in ("prompt", "prompt_later") if (said := getattr(node, key)) and not context.sure(said)),
    )


def _sms(context: Context, name: str, node: Any) -> Meaning:
    reads = [read for key in ("to", "text") for read in context.text(getattr(node, key), ("steps", name, key), "message")]
    return Meaning(
        reads=(*reads, *context.spoken(name, node, "mask")),
        exits=context.exits(name, node),
        failures=("failed",),
        **{**asking(context, node), "seconds": node.budget + 0.5 + context.longest_phrase(node.mask), "fails_of": "the text message"},
    )


def _bot(context: Context, name: str, node: Any) -> Meaning:
    reads = (*context.spoken(name, node, "prompt"), *context.texts(name, node, "parameters", "parameter", under="with"))
    return Meaning(
        reads=reads,
        exits=context.exits(name, node, **{exit_: {"act": "caller"} for exit_ in ("done", *node.answers)}),
        wait="caller",
        seconds=context.longest(node.prompt) + TO_BEGIN + node.max_seconds,
        says=bool(node.prompt) and context.sure(node.prompt),
        failures=("failed", "hung"),
        fails_of="the bot",
    )


OUTSIDE: dict[str, Describe] = {
    "record": _record,
    "voicemail": _voicemail,
    "transfer": _transfer,
    "callback": _callback,
    "sms": _sms,
    "bot": _bot,
}
