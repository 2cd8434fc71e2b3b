"""What the API needs of the house, as one small protocol: the engine and the store stand behind it, `app/main.py` ties them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from app.core.events import Event


class Refused(Exception):
    """The centre refused an event: an illegal move, an unknown call or agent. `kind` is a stable id, such as `illegal-move`.

    `errors` are (place, why) where single values of what was sent are wrong.
    """

    def __init__(self, kind: str, detail: str, errors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = errors


class BadFlow(Exception):
    """A flow that cannot be published as it is; a line for each mistake, such as `hotline.yaml:12: steps.menu: ...`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Flows(Protocol):
    """Flows and their versions. Raises `Refused` for what is not there, or not possible as things are."""

    def flows(self) -> list[dict[str, Any]]:
        """Every flow (the shape of `app.api.models.Flow`)."""

    def tag(self, flow: str) -> str:
        """Changes whenever it changes what new callers get."""

    def versions(self, flow: str) -> list[dict[str, Any]]:
        """All versions of a flow, the newest first (the shape of `app.api.models.FlowVersion`)."""

    async def program(self, flow: str, number: int) -> dict[str, Any]:
        """The program of one version, as JSON values."""

    async def diff(self, flow: str, before: int, after: int) -> list[dict[str, Any]]:
        """What changes for callers (the shape of `app.api.models.FlowChange`)."""

    async def picture(self, flow: str, number: int | None) -> tuple[str, str]:
        """A version (None: the active one) as SVG, and its hash. The box of a step has `id="step-<name>"` and `data-step="<name>"`."""

    async def publish(self, flow: str, content: str | Mapping[str, Any], name: str, by: str, **wish: Any) -> dict[str, Any]:
        """Publish YAML text or JSON values; the version. `wish`: note, share, numbers, guard, tag. Raises `BadFlow`, `StorageBusy`."""

    async def activate(self, flow: str, number: int, by: str, **wish: Any) -> dict[str, Any]:
        """Publish a version again; otherwise as `publish`."""


class Archive(Protocol):
    """What is kept of people beyond their calls. Raises `StorageBusy` while it cannot be got at."""

    async def recording(self, name: str) -> bytes | None:
        """A recording's WAV file; None where there is none, or none any more."""

    async def forget(self, number: str, by: str) -> dict[str, Any]:
        """Forget whoever called from a number; what there was, and what is left (the shape of `app.api.people.Forgotten`)."""


class Backend(Protocol):
    """Reading is immediate and in memory, but for what has ended; writing is an event that is answered once it is committed."""

    flows: Flows
    archive: Archive

    async def submit(self, event: Event) -> None:
        """Hand an event to the centre and return when it is durable; raises `Refused`, or `StorageBusy` while nothing can be written."""

    def calls(self) -> list[dict[str, Any]]:
        """Live calls, oldest first (the shape of `app.api.models.Call`)."""

    def call(self, call: str) -> dict[str, Any] | None:
        """One live call."""

    def session(self, call: str) -> dict[str, Any] | None:
        """The variables of one live call: `{call, version, step, variables: {space: {name: value}}}`; None when it is not live."""

    async def ended_calls(self, limit: int, before: float | None = None) -> list[dict[str, Any]]:
        """Calls that have ended, newest first."""

    async def ended_call(self, call: str) -> dict[str, Any] | None:
        """One call that has ended."""

    async def timeline(self, call: str) -> list[dict[str, Any]] | None:
        """`{at, kind: event|fact|command, type, ...fields}` of a live or an ended call in order, digits masked; None when unknown."""

    def agents(self) -> list[dict[str, Any]]:
        """Every agent: id, name, presence, work, reason, call, skills, phone, since."""

    def queues(self) -> list[dict[str, Any]]:
        """Every queue: name, waiting, longest wait in seconds, able agents by state, and what waits in order."""

    def health(self) -> Mapping[str, Any]:
        """`{"ready": bool, "parts": {name: {"ok": bool, "why": str}}}`; answered by the engine's own loop."""

    def stats(self) -> Mapping[str, Any]:
        """Since the start: `events` handled, `commit_seconds` in all, `commit_times` as (seconds at most, commits that took that long)."""

    def follow(self, after: str | None) -> AsyncIterator[dict[str, Any]]:
        """What happens on calls, each with an `id`: after the one named, or from now on. Raises `Refused` for what is no id."""

    def webhooks(self) -> list[dict[str, Any]]:
        """Every target: `{name, ok, why, delivered}`."""

    async def undelivered(self, webhook: str) -> list[dict[str, Any]]:
        """What a target did not take: `{id, at, reason}`."""

    async def redeliver(self, webhook: str) -> tuple[int, int]:
        """Try that once more; how many were taken, and how many are left."""

    def messages(self, agent: str | None) -> AsyncIterator[dict[str, Any]]:
        """What happens from now on: for one agent's desk (offers, withdrawals, own state), or the states of all agents (None)."""


class StorageBusy(Exception):
    """Nothing can be written at the moment; the caller of the API should try again after `retry_after` seconds."""

    retry_after = 2
