"""Agents, and the verbs by which they (or their supervisor) move them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from app.api.backend import Backend
from app.api.models import Agent, AgentList, Nothing, NotReady, OneCall, WrapUpDone
from app.api.problems import Problem
from app.api.routes import Asked, Routes
from app.core.events import (
    AgentBecameNotReady,
    AgentBecameReady,
    AgentFinishedWrapUp,
    AgentHungUp,
    AgentRejected,
    AgentSignedIn,
    AgentSignedOut,
    Event,
)

routes = Routes("agents")
VERBS: dict[str, tuple[str, type[BaseModel], Callable[[str, Any], Event]]] = {
    "sign-in": ("Sign in, not ready yet", Nothing, lambda a, _: AgentSignedIn(a)),
    "sign-out": ("Sign out", Nothing, lambda a, _: AgentSignedOut(a)),
    "ready": ("Ask for work", Nothing, lambda a, _: AgentBecameReady(a)),
    "not-ready": ("Want no more work, for a reason", NotReady, lambda a, b: AgentBecameNotReady(a, b.reason)),
    "reject": ("Decline the offer of a call", OneCall, lambda a, b: AgentRejected(a, b.call)),
    "hang-up": ("End the conversation", OneCall, lambda a, b: AgentHungUp(a, b.call)),
    "wrap-up-done": (
        "Finish the work after a call",
        WrapUpDone,
        lambda a, b: AgentFinishedWrapUp(a, b.call, b.disposition, b.remarks),
    ),
}


def find(backend: Backend, agent: str) -> dict[str, Any]:
    """The agent as the backend knows it; raises a 404."""
    found = next((a for a in backend.agents() if a["id"] == agent), None)
    if found is None:
        raise Problem(404, "unknown-agent", "no such agent")
    return found


@routes.add("GET", "/v1/agents", "Every agent", access="staff", answer=AgentList)
async def agents(asked: Asked[None, None]) -> AgentList:
    """In the backend's order."""
    return AgentList.model_validate({"agents": asked.backend.agents()})


@routes.add("GET", "/v1/agents/{agent}", "One agent", access="own", answer=Agent, problems=(404,))
async def one_agent(asked: Asked[None, None]) -> Agent:
    """As of now."""
    return Agent.model_validate(find(asked.backend, asked.path["agent"]))


def _declare(verb: str, summary: str, body: type[BaseModel], event: Callable[[str, Any], Event]) -> None:
    @routes.add(
        "POST", f"/v1/agents/{{agent}}/{verb}", summary, access="own", body=body, answer=Agent, problems=(400, 404, 409, 413, 415, 503)
    )
    async def handler(asked: Asked[None, Any]) -> Agent:
        agent = asked.path["agent"]
        find(asked.backend, agent)
        await asked.backend.submit(event(agent, asked.body))
        return Agent.model_validate(find(asked.backend, agent))


for _verb, _what in VERBS.items():
    _declare(_verb, *_what)
