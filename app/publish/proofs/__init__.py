"""Proofs about flows, before they are published: each looks at all paths of a flow and shows one on which it goes wrong."""

from app.publish.proofs.findings import Finding, Longest, Loop, Report
from app.publish.proofs.prove import prove

__all__ = ["Finding", "Longest", "Loop", "Report", "prove"]
