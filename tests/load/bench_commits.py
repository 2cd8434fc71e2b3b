"""How long Callwright's commits take, out of its own `/metrics`."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from app.up import Installation


@dataclass(frozen=True, slots=True)
class Commits:
    """Commits by how long they took: `edges` in seconds, ascending, and how many took at most that long, since the edge before."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def read(cls, installation: Installation) -> Commits:
        """Since the application was started."""
        request = urllib.request.Request(f"http://127.0.0.1:{installation.ports.api}/metrics")
        request.add_header("Authorization", f"Bearer {installation.keep()['admin_token']}")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            text = answer.read().decode()
        family = next(each for each in text_string_to_metric_families(text) if each.name == "callwright_commit_seconds")
        buckets = sorted((float(each.labels["le"]), int(each.value)) for each in family.samples if each.name.endswith("_bucket"))
        below = (0, *(count for _, count in buckets))
        return cls(tuple(edge for edge, _ in buckets), tuple(count - less for (_, count), less in zip(buckets, below, strict=False)))

    def __sub__(self, earlier: Commits) -> Commits:
        return Commits(self.edges, tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True)))

    def __add__(self, other: Commits) -> Commits:
        return Commits(self.edges, tuple(one + two for one, two in zip(self.counts, other.counts, strict=True)))

    @property
    def count(self) -> int:
        """All of them."""
        return sum(self.counts)

    def percentile(self, percent: float) -> float:
        """Milliseconds that `percent` of the commits do not exceed, as fine as the edges are; 0 where there was none."""
        wanted, passed, lower = self.count * percent / 100, 0, 0.0
        for edge, count in zip(self.edges, self.counts, strict=True):
            if count and passed + count >= wanted:
                upper = min(edge, 2 * lower) if edge == float("inf") else edge
                return 1000 * (lower + (upper - lower) * (wanted - passed) / count)
            passed, lower = passed + count, edge
        return 0.0
