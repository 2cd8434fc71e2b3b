"""The benchmark as a table: a line a measure, a column a contender, and what Callwright is after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.load.bench_house import CALLWRIGHT, CONTENDERS, DIALPLAN

Row = Mapping[str, Any]


def show(out: Console, told: Mapping[str, Any]) -> None:
    """Print it."""
    w2 = told["w2"]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
    table.add_column("the full call")
    for contender in CONTENDERS:
        table.add_column(contender, justify="right")
    table.add_column("aim for callwright")
    for name, tell, aim in LINES:
        table.add_row(name, *(tell(w2[contender], w2[DIALPLAN]) for contender in CONTENDERS), aim)
    out.print()
    out.print(table)
    row = w2[CALLWRIGHT]
    if "commit_ms" in row:
        spread = " / ".join(f"{row['commit_ms'][key]:g}" for key in ("p50", "p95", "p99"))
        out.print(f"\n{row['commits_per_call']:g} commits a call, {spread} ms (p50 / p95 / p99)")
    if told["core"]:
        out.print()
        out.print(_core(told["core"]))


def _core(found: Row) -> Table:
    """The slowest case of matching stands for all of them; `bench.json` has each."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
    for column in ("the core alone", "", "aim"):
        table.add_column(column, justify="right" if not column else "left")
    for name, key, digits, aim in CORE:
        table.add_row(name, _number(found[key], digits), aim)
    return table


def total(row: Row) -> float:
    """CPU seconds a thousand calls, Asterisk and application together."""
    return float(row["asterisk_cpu_s_per_1000"] + row["app_cpu_s_per_1000"])


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _times(key: str) -> Callable[[Row, Row], str]:
    return lambda row, _: " / ".join(_number(row[key][percent]) for percent in ("p50", "p95", "p99"))


def _one(key: str, digits: int = 1) -> Callable[[Row, Row], str]:
    return lambda row, _: _number(row[key], digits)


def _ratio(row: Row, dialplan: Row) -> str:
    return f"{total(row) / total(dialplan):.2f}" if total(dialplan) else "-"


def _busy(row: Row, dialplan: Row) -> str:
    mine, base = row.get("busy"), dialplan.get("busy")
    return f"{total(mine):.1f}, own {mine['app_cpu_s_per_1000']:.1f} ({_ratio(mine, base)})" if mine and base else "-"


LINES: tuple[tuple[str, Callable[[Row, Row], str], str], ...] = (
    ("INVITE to 200, p50 / p95 / p99 ms", _times("setup_ms"), "p99 <= the dialplan's"),
    ("last key to agent's INVITE, ms", _times("placement_ms"), "p99 <= 5, <= the dialplan's"),
    ("agent's 200 to caller hears, ms", _times("answer_to_audio_ms"), "p50 <= the dialplan's"),
    ("agent's 200 to agent hears, ms", _times("answer_to_agent_ms"), ""),
    ("CPU s per 1000 calls, Asterisk", _one("asterisk_cpu_s_per_1000"), ""),
    ("CPU s per 1000 calls, application", _one("app_cpu_s_per_1000"), "<= 4"),
    ("both ÷ the dialplan's", _ratio, "<= 1.15; accepted at 1.35"),
    ("both at the rate of a busy centre (÷)", _busy, ""),
    ("highest rate, calls a second", _one("max_rate", 0), ">= 0.9 x the dialplan's"),
    ("KiB a held call, application", _one("held_kib"), "<= 8"),
    ("calls placed / failed", lambda row, _: f"{row['calls']} / {row['failed']}", ""),
    ("CPU stolen by others, %", _one("steal_pct"), ""),
)
CORE = (
    ("events a second through the whole flow", "events_per_s", 0, ""),
    ("whole calls a second", "calls_per_s", 0, ""),
    ("CPU a call, ms", "cpu_ms_per_call", 2, ""),
    ("matching, decisions a second, slowest case", "matching_decisions_per_s", 0, ">= 60,000"),
    ("matching, p99.9 us, slowest case", "matching_p99_9_us", 1, "<= 20"),
)
