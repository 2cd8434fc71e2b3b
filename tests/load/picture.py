"""The picture of set-up times: how they are distributed, and how they went over the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from tests.load.sipp import SetUp

COLOURS = ("#2f6f9f", "#e08a2e", "#4c9f70", "#a3566f", "#7a6fb0", "#8a8f98")
INK, GRID, PAPER = "#22303c", "#dde3e8", "#ffffff"
TICK = 4.0
"""Milliseconds between ticks of SIPp's clock: no bin is narrower."""
STYLE: Any = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed; 0 where there is none."""
    return float(np.percentile(np.asarray(values), percent, method="higher")) if values else 0.0


def draw(path: Path, title: str, parts: Mapping[str, Sequence[SetUp]]) -> None:
    """Write the picture as PNG; `parts` are set-up times by scenario."""
    parts = {name: found for name, found in parts.items() if found}
    every = [one.ms for found in parts.values() for one in found]
    with plt.rc_context(STYLE):
        figure, (spread, course) = plt.subplots(2, 1, figsize=(9.6, 7.2), dpi=130, facecolor=PAPER, height_ratios=(3, 2))
        figure.suptitle(title, x=0.065, y=0.975, ha="left", fontsize=14, fontweight="bold")
        _distribution(spread, parts, every)
        for colour, found in zip(COLOURS, parts.values(), strict=False):
            course.scatter([one.at for one in found], [one.ms for one in found], s=18, color=colour, alpha=0.75, linewidths=0)
        course.set(xlabel="seconds since the load began", ylabel="set-up, ms", ylim=(0, None), xlim=(0, None))
        course.grid(color=GRID)
        figure.legend(*spread.get_legend_handles_labels(), loc="upper right", ncols=len(parts), frameon=False, bbox_to_anchor=(0.99, 0.99))
        figure.tight_layout(rect=(0, 0, 1, 0.96))
        figure.savefig(path)
        plt.close(figure)


def _distribution(axes: Axes, parts: Mapping[str, Sequence[SetUp]], every: Sequence[float]) -> None:
    """A stacked histogram with the percentiles as lines. What lies far beyond p99 is counted in the last bin."""
    far = max(percentile(every, 99) * 1.25, 10 * TICK)
    width = TICK * max(1, round(far / TICK / 48))
    edges = [width * number - TICK / 2 for number in range(int(far / width) + 2)]
    values = [np.clip([one.ms for one in found], 0, edges[-1] - width / 2) for found in parts.values()]
    axes.hist(values, bins=edges, stacked=True, color=COLOURS[: len(values)], label=list(parts), edgecolor=PAPER, linewidth=0.5)
    axes.set(xlabel="set-up time, INVITE to 200 OK, ms", ylabel="calls", xlim=(0, edges[-1]))
    axes.grid(axis="y", color=GRID)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.18)
    marks: dict[float, list[str]] = {}
    for percent in (50, 95, 99):
        marks.setdefault(percentile(every, percent), []).append(f"p{percent}")
    for height, (at, which) in zip((1.13, 1.06, 0.99), marks.items(), strict=False):
        left = at < edges[-1] * 0.8
        axes.axvline(at, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"{', '.join(which)}: {at:.0f} ms",
            (at, top * height),
            xytext=(6 if left else -6, 0),
            textcoords="offset points",
            ha="left" if left else "right",
            va="center",
            fontsize=9,
            fontweight="bold",
        )
