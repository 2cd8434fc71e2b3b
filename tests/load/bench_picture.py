"""The benchmark as one picture: times, CPU, rate and memory, a colour a contender."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.load.bench_house import BARE, CALLWRIGHT, CONTENDERS, DIALPLAN, FASTAGI
from tests.load.bench_table import total
from tests.load.picture import INK, PAPER, STYLE

COLOURS = {DIALPLAN: "#9aa5b1", FASTAGI: "#e0a04a", BARE: "#8fbf7f", CALLWRIGHT: "#2f6f9f"}
PALE = 0.55
PERCENTILES = ("p50", "p95", "p99")
Rows = Mapping[str, Mapping[str, Any]]


def draw(path: Path, told: Mapping[str, Any]) -> None:
    """Write the picture as PNG, out of what `bench.json` holds. What was not measured is left out."""
    rows: Rows = told["w2"]
    panels: list[Callable[[Axes], None]] = [
        lambda axes: _times(axes, rows, "setup_ms", "INVITE to 200 OK, ms"),
        lambda axes: _times(axes, rows, "placement_ms", "last key to the agent's INVITE, ms"),
        lambda axes: _times(axes, rows, "answer_to_audio_ms", "agent's 200 OK to voice at the caller, ms"),
        lambda axes: _cpu(axes, rows),
    ]
    if all(rows[contender]["max_rate"] is not None for contender in CONTENDERS):
        panels.append(lambda axes: _bars(axes, rows, "max_rate", "highest rate, calls a second", "{:.0f}"))
    if any(rows[contender]["held_kib"] is not None for contender in CONTENDERS):
        panels.append(lambda axes: _bars(axes, rows, "held_kib", "memory of the application a held call, KiB", "{:.1f}"))
    lines = -(-len(panels) // 3) if len(panels) > 4 else 2
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(lines, -(-len(panels) // lines), figsize=(12.4, 4.0 * lines), dpi=130, facecolor=PAPER, squeeze=False)
        figure.suptitle(
            "The full call: two lookups, seven keys, a queue, two seconds of talk",
            x=0.022,
            y=0.985,
            ha="left",
            fontsize=15,
            fontweight="bold",
        )
        for axes, panel in zip(grid.flat, panels, strict=False):
            panel(axes)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[contender]) for contender in CONTENDERS]
        figure.legend(
            handles, CONTENDERS, loc="upper right", ncols=len(CONTENDERS), frameon=False, bbox_to_anchor=(0.985, 1 - 0.06 / (4.0 * lines))
        )
        steal = ", ".join(f"{contender} {rows[contender]['steal_pct']:g} %" for contender in CONTENDERS)
        calls = ", ".join(f"{rows[contender]['calls']}" for contender in CONTENDERS)
        figure.text(
            0.022, 0.012, f"calls measured: {calls}   ·   CPU stolen by other machines on this host: {steal}", fontsize=9, color="#69747f"
        )
        figure.tight_layout(rect=(0.01, 0.035, 0.99, 1 - 0.42 / (4.0 * lines)), h_pad=2.2, w_pad=2.6)
        figure.savefig(path)
        plt.close(figure)


def _frame(axes: Axes, title: str, top: float) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", pad=10)
    axes.set_ylim(0, max(top, 0.001) * 1.16)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _label(axes: Axes, x: float, y: float, text: str, bold: bool = False) -> None:
    axes.annotate(
        text, (x, y), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8.5, fontweight="bold" if bold else "normal"
    )


def _times(axes: Axes, rows: Rows, key: str, title: str) -> None:
    """Three groups of three bars."""
    top = 0.0
    for place, contender in enumerate(CONTENDERS):
        for group, percentile in enumerate(PERCENTILES):
            value = rows[contender][key][percentile] or 0.0
            x = group + (place - 1) * 0.28
            axes.bar(x, value, width=0.25, color=COLOURS[contender])
            _label(axes, x, value, f"{value:.1f}" if value < 100 else f"{value:.0f}")
            top = max(top, value)
    axes.set_xticks(range(len(PERCENTILES)), PERCENTILES)
    _frame(axes, title, top)


def _cpu(axes: Axes, rows: Rows) -> None:
    """Asterisk below, the application on top, and the multiple of the dialplan."""
    base = total(rows[DIALPLAN])
    for place, contender in enumerate(CONTENDERS):
        asterisk, app = rows[contender]["asterisk_cpu_s_per_1000"], rows[contender]["app_cpu_s_per_1000"]
        axes.bar(place, asterisk, width=0.62, color=COLOURS[contender], alpha=PALE)
        axes.bar(place, app, bottom=asterisk, width=0.62, color=COLOURS[contender])
        axes.text(place, asterisk / 2, f"Asterisk\n{asterisk:.1f}", ha="center", va="center", fontsize=8.5, color=INK)
        multiple = f"  (x {(asterisk + app) / base:.2f})" if base else ""
        own = f"\nits own {app:.1f}" if app else ""
        _label(axes, place, asterisk + app, f"{asterisk + app:.1f}{multiple}{own}", bold=True)
    axes.set_xticks(range(len(CONTENDERS)), CONTENDERS)
    _frame(axes, "CPU seconds per 1000 calls", 1.06 * max(total(rows[contender]) for contender in CONTENDERS))


def _bars(axes: Axes, rows: Rows, key: str, title: str, form: str) -> None:
    """One bar a contender."""
    values = {contender: rows[contender][key] for contender in CONTENDERS}
    for place, (contender, value) in enumerate(values.items()):
        axes.bar(place, max(value or 0.0, 0.0), width=0.62, color=COLOURS[contender])
        _label(axes, place, max(value or 0.0, 0.0), "not measured" if value is None else form.format(value), bold=True)
    axes.set_xticks(range(len(CONTENDERS)), CONTENDERS)
    _frame(axes, title, max(value or 0.0 for value in values.values()))
