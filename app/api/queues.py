"""Queues: who waits, for how long, and who could help."""

from __future__ import annotations

from app.api.models import QueueList
from app.api.routes import Asked, Routes

routes = Routes("queues")


@routes.add("GET", "/v1/queues", "Every queue with what waits in it, in order", access="staff", answer=QueueList)
async def queues(asked: Asked[None, None]) -> QueueList:
    """In the backend's order."""
    return QueueList.model_validate({"queues": asked.backend.queues()})
