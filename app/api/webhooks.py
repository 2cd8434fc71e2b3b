"""The webhooks that we send: whether they are taken, and what was put aside because it was not."""

from __future__ import annotations

from pydantic import Field

from app.api.models import Answer, Nothing
from app.api.problems import Problem
from app.api.routes import Asked, Routes

routes = Routes("webhooks")


class Target(Answer):
    """One target. `delivered` counts since the start of the process."""

    name: str
    ok: bool
    why: str = Field(description="why the last delivery was not taken")
    delivered: int


class TargetList(Answer):
    """Every target of the settings."""

    webhooks: list[Target]


class Undelivered(Answer):
    """A message that was put aside: its id, when it was given up, and why it was not taken."""

    id: str
    at: float
    reason: str


class UndeliveredList(Answer):
    """In the order in which things happened."""

    undelivered: list[Undelivered]


class Redelivered(Answer):
    """How many were taken now, and how many are left."""

    taken: int
    left: int


@routes.add("GET", "/v1/webhooks", "Targets of webhooks, and whether they take them", access="staff", answer=TargetList)
async def webhooks(asked: Asked[None, None]) -> TargetList:
    """In the order of the settings."""
    return TargetList.model_validate({"webhooks": asked.backend.webhooks()})


@routes.add(
    "GET", "/v1/webhooks/{webhook}/undelivered", "What a target did not take", access="staff", answer=UndeliveredList, problems=(404,)
)
async def undelivered(asked: Asked[None, None]) -> UndeliveredList:
    """At most a thousand."""
    found = await asked.backend.undelivered(_name(asked))
    return UndeliveredList.model_validate({"undelivered": found})


@routes.add(
    "POST",
    "/v1/webhooks/{webhook}/redeliver",
    "Try once more to deliver what a target did not take",
    access="staff",
    body=Nothing,
    answer=Redelivered,
    problems=(404, 503),
)
async def redeliver(asked: Asked[None, Nothing]) -> Redelivered:
    """One after the other; what was taken is put aside no longer."""
    taken, left = await asked.backend.redeliver(_name(asked))
    return Redelivered(taken=taken, left=left)


def _name(asked: Asked[None, Nothing] | Asked[None, None]) -> str:
    name = asked.path["webhook"]
    if all(each["name"] != name for each in asked.backend.webhooks()):
        raise Problem(404, "unknown-webhook", "no such webhook")
    return name
