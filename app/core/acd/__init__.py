"""Automatic call distribution: queues, agents, and who gets whom."""

from app.core.acd.acd import REFUSAL, Acd, Match
from app.core.acd.agents import PRESENCE, WORK, Agent, AgentDef, IllegalMove, UnknownAgent
from app.core.acd.queues import BACK, FRONT, NORMAL, QueueDef, UnknownInteraction, UnknownQueue, Waiting
from app.core.acd.relaxation import Relax

__all__ = [
    "BACK",
    "FRONT",
    "NORMAL",
    "PRESENCE",
    "REFUSAL",
    "WORK",
    "Acd",
    "Agent",
    "AgentDef",
    "IllegalMove",
    "Match",
    "QueueDef",
    "Relax",
    "UnknownAgent",
    "UnknownInteraction",
    "UnknownQueue",
    "Waiting",
]
