"""The picture of the ratios: an SVG of bars on a logarithmic scale, from 1 to either side."""

import math
from collections.abc import Sequence
from html import escape
from itertools import groupby

from bench.report import ENDLESS, Comparison

LEFT = 230
PLOT = 520
RIGHT = 70
TOP = 58
ROW = 20
BAR = 12
GAP = 34
FOOT = 20

INK = "#1f2933"
FAINT = "#6b7785"
GRID = "#e3e7ec"
AHEAD, BEHIND, PLAIN = "#2f8f5b", "#c8553d", "#5b7fa6"

TICKS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


class Scale:
    """Ratios to pixels, wide enough for all of them."""

    def __init__(self, found: Sequence[Comparison]) -> None:
        values = [1.0]
        for line in found:
            values += [line.ratio] if math.isfinite(line.ratio) and line.ratio > 0 else []
            values += [line.goal] if line.goal else []
        self.low = max(TICKS[0], min(min(values) / 1.3, 0.5))
        self.high = min(TICKS[-1], max(max(values) * 1.3, 2.0))

    def __call__(self, ratio: float) -> float:
        held = min(max(ratio, self.low), self.high)
        share = math.log(held / self.low) / math.log(self.high / self.low)
        return LEFT + PLOT * share

    @property
    def ticks(self) -> list[float]:
        """The marks that fall within."""
        return [tick for tick in TICKS if self.low <= tick <= self.high]


def draw(found: Sequence[Comparison]) -> str:
    """The whole picture; works in the order given, one bar for each peer."""
    scale = Scale(found)
    rows: list[str] = []
    height = TOP
    for work, group in groupby(found, key=lambda line: line.work):
        rows.append(text(12, height + 14, work, weight="600"))
        height += 22
        for line in group:
            rows.append(bar(line, height, scale))
            height += ROW
        height += GAP - ROW
    bottom = height
    width, height = LEFT + PLOT + RIGHT, bottom + FOOT
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = 'font-family="system-ui, sans-serif" font-size="12"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {box} {font}>',
            "<title>How many times as good as each peer quick_server is</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            text(12, 22, "How many times as good as each peer", weight="700", size=15),
            legend(),
            *(grid(tick, bottom, scale) for tick in scale.ticks),
            *rows,
            "</svg>\n",
        ]
    )


def bar(line: Comparison, top: float, scale: Scale) -> str:
    """One peer: its name, a bar from 1 to the ratio, a mark where the goal is, the number."""
    start, end = sorted((scale(1), scale(line.ratio)))
    width = max(end - start, 1)
    colour = {None: PLAIN, True: AHEAD, False: BEHIND}[line.reached]
    middle = top + BAR / 2
    parts = [
        text(LEFT - 10, middle + 4, line.peer, anchor="end", fill=FAINT),
        f'<rect x="{start:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>',
        text(LEFT + PLOT + RIGHT - 12, middle + 4, number(line.ratio), anchor="end"),
    ]
    if line.goal is not None:
        goal = scale(line.goal)
        parts.append(f'<path d="M{goal:.1f} {top - 3}v{BAR + 6}" stroke="{INK}" stroke-width="2"/>')
    return "".join(parts)


def grid(tick: float, bottom: float, scale: Scale) -> str:
    """A line for a round ratio, named above."""
    colour = FAINT if tick == 1 else GRID
    return f'<path d="M{scale(tick):.1f} {TOP - 6}V{bottom}" stroke="{colour}"/>' + text(
        scale(tick), TOP - 10, f"{tick:g}\u00d7", anchor="middle", fill=FAINT, size=11
    )


def legend() -> str:
    """What the colours and the mark mean."""
    names = ((AHEAD, "goal reached"), (BEHIND, "goal missed"), (PLAIN, "no goal"))
    parts = []
    for place, (colour, name) in enumerate(names):
        left = LEFT + 160 + place * 110
        parts.append(f'<rect x="{left}" y="13" width="10" height="10" rx="2" fill="{colour}"/>')
        parts.append(text(left + 15, 22, name, fill=FAINT))
    left = LEFT + 160 + len(names) * 110 - 20
    parts.append(f'<path d="M{left} 11v14" stroke="{INK}" stroke-width="2"/>')
    parts.append(text(left + 8, 22, "goal", fill=FAINT))
    return "".join(parts)


def number(ratio: float) -> str:
    """``0.417`` → ``'0.42'``, ``12.3`` → ``'12'``."""
    if math.isinf(ratio):
        return ENDLESS
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2f}"


def text(
    left: float,
    base: float,
    content: str,
    *,
    anchor: str = "start",
    fill: str = INK,
    weight: str = "400",
    size: int = 12,
) -> str:
    """A line of text."""
    return (
        f'<text x="{left:.1f}" y="{base:.1f}" text-anchor="{anchor}" fill="{fill}" '
        f'font-weight="{weight}" font-size="{size}">{escape(content)}</text>'
    )
