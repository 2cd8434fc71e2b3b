"""What is kept of people: recordings, and how a person is forgotten."""

from __future__ import annotations

from aiohttp import web
from pydantic import Field

from app.api.models import Answer
from app.api.problems import Problem
from app.api.routes import Asked, Routes

routes = Routes("people")


class ForgottenCall(Answer):
    """A call that cannot be read any more, and when it arrived."""

    call: str
    arrived: float | None = None


class KeptCall(Answer):
    """A call that is not forgotten, and why."""

    call: str
    why: str


class Forgotten(Answer):
    """What there was of a person, and is not any more; and what is left, if anything is."""

    number: str = Field(description="all but the last two characters hidden")
    calls: list[ForgottenCall]
    recordings: int = Field(description="recordings that were deleted, here and in Asterisk")
    prompts: int = Field(description="spoken texts that were made for these calls, and were deleted")
    kept: list[KeptCall] = Field(description="calls that still go on: ask again when they have ended")
    left: list[str] = Field(description="what could not be deleted at once, and why; empty when all is gone")


@routes.add(
    "DELETE", "/v1/subjects/{subject}", "Forget a person, by the number they called from", access="staff", answer=Forgotten, problems=(503,)
)
async def forget(asked: Asked[None, None]) -> Forgotten:
    """Deletes the keys of all their calls that have ended, so that journal, history and recordings of these can be read by nobody.

    Facts without a person (when, how long, which queue and outcome) stay for the reports. For an administrator alone, and for good.
    """
    if asked.who.role != "admin":
        raise Problem(403, "forbidden", "only an administrator may forget a person")
    return Forgotten.model_validate(await asked.backend.archive.forget(asked.path["subject"], asked.who.name))


@routes.add("GET", "/v1/recordings/{recording}", "A recording, as a WAV file", access="staff", media="audio/wav", problems=(404, 503))
async def recording(asked: Asked[None, None]) -> web.Response:
    """By its id, as `record` steps keep it. One of a forgotten call is no more."""
    content = await asked.backend.archive.recording(asked.path["recording"])
    if content is None:
        raise Problem(404, "unknown-recording", "no such recording")
    return web.Response(body=content, headers={"Content-Type": "audio/wav"})
