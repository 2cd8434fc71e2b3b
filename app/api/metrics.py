"""Numbers for Prometheus: what the house does, read at each scrape, and what anybody counts with `Metrics`."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.api.backend import Backend
from app.api.routes import Asked, Routes

routes = Routes("metrics")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counters, gauges and histograms by name, made at first use, each name prefixed with `callwright_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._made: dict[str, Counter | Gauge | Histogram] = {}

    def count(self, name: str, text: str, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter."""
        made = self._made.get(name) or self._keep(name, Counter(f"callwright_{name}", text, list(labels), registry=self.registry))
        assert isinstance(made, Counter)
        (made.labels(**labels) if labels else made).inc(amount)

    def set(self, name: str, text: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        made = self._made.get(name) or self._keep(name, Gauge(f"callwright_{name}", text, list(labels), registry=self.registry))
        assert isinstance(made, Gauge)
        (made.labels(**labels) if labels else made).set(value)

    def observe(self, name: str, text: str, seconds: float, /, buckets: Sequence[float] = _BUCKETS, **labels: str) -> None:
        """Add to a histogram of seconds."""
        made = self._made.get(name) or self._keep(
            name, Histogram(f"callwright_{name}", text, list(labels), registry=self.registry, buckets=buckets)
        )
        assert isinstance(made, Histogram)
        (made.labels(**labels) if labels else made).observe(seconds)

    def _keep(self, name: str, made: Counter | Gauge | Histogram) -> Counter | Gauge | Histogram:
        self._made[name] = made
        return made

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)


class House(Collector):
    """What the backend knows at the moment of a scrape."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the names depend on what there is."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Calls, agents, queues, health, and what the engine has done."""
        yield _family("calls", "Live calls by state", ["state"], Tally((c["state"],) for c in self._backend.calls()))
        agents = self._backend.agents()
        yield _family("agents", "Agents by presence", ["presence"], Tally((a["presence"],) for a in agents))
        yield _family("agents_working", "Agents by what is in hand", ["work"], Tally((a["work"],) for a in agents if a.get("work")))
        queues = self._backend.queues()
        yield _family("queue_waiting", "Calls that wait", ["queue"], {(q["name"],): q["waiting"] for q in queues})
        waits = {(q["name"],): q.get("longest_wait", 0) for q in queues}
        yield _family("queue_longest_wait_seconds", "Longest wait of those that wait", ["queue"], waits)
        health = self._backend.health()
        yield _family("ready", "1 when calls can be taken", [], {(): int(health["ready"])})
        yield _family("part_ok", "1 when this part works", ["part"], {(name,): int(p["ok"]) for name, p in health["parts"].items()})
        stats = self._backend.stats()
        yield CounterMetricFamily("callwright_events", "Events handled", value=stats["events"])
        counts = accumulate(count for _, count in stats["commit_times"])
        buckets = [(repr(edge).replace("inf", "+Inf"), count) for (edge, _), count in zip(stats["commit_times"], counts, strict=True)]
        yield HistogramMetricFamily("callwright_commit_seconds", "Commits by how long they took", buckets, stats["commit_seconds"])


def _family(name: str, text: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"callwright_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family


METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)


@routes.add("GET", "/metrics", "Numbers for Prometheus", access="staff", media="text/plain")
async def metrics(asked: Asked[None, None]) -> web.Response:
    """In the text format."""
    return web.Response(body=asked.request.app[METRICS].text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
