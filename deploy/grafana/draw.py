#!/usr/bin/env python3
"""Draws the dashboards of Holdfast with what a Prometheus has, one SVG file each.

    deploy/grafana/draw.py PROMETHEUS_URL DIR [SECONDS]

of the last SECONDS (300). The panels, their places and their queries are those of generate.py, for
all shards and currencies; it is not Grafana that draws them. Says which queries found nothing.
Python's standard library only.
"""

import json
import math
import pathlib
import sys
import time
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

import generate

COLUMN, UNIT, GAP = 50, 27, 6
COLOURS = ["#3274d9", "#e0752d", "#2a9d5c", "#b5179e", "#8f3bb8", "#c9a400", "#7a5230", "#6b7280", "#0fa3b1", "#d62839"]
INK, DIM, GRID, GROUND = "#24292e", "#6b7280", "#e5e7eb", "#f4f5f7"
STEP = 2


class Prometheus:
    def __init__(self, url, seconds):
        self.url, self.end = url.rstrip("/"), time.time()
        self.start = self.end - seconds

    def range(self, expr):
        """[(labels, [(time, value)])]."""
        asked = {"query": expr, "start": self.start, "end": self.end, "step": STEP}
        url = f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            found = json.load(answer)["data"]["result"]
        series = []
        for one in found:
            points = [(float(at), float(value)) for at, value in one["values"]]
            points = [(at, value) for at, value in points if math.isfinite(value)]
            if points:
                series.append((one["metric"], points))
        return series


def expression(text):
    return text.replace("$__rate_interval", "20s").replace("$shard", ".*").replace("$currency", ".*")


def name(legend, labels):
    if not legend:
        return ", ".join(f"{key}={value}" for key, value in labels.items() if key != "__name__") or "value"
    for key, value in labels.items():
        legend = legend.replace("{{%s}}" % key, value)
    return legend


def short(value, unit):
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if value != int(value) else f"{value:.0f}"


def text(x, y, words, size=11, colour=INK, anchor="start", bold=False):
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>{escape(str(words))}</text>'


def frame(panel, x, y, width, height):
    return [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" fill="#ffffff" stroke="{GRID}"/>',
        text(x + 8, y + 16, panel["title"], 12, bold=True),
    ]


def ceiling(most):
    if most <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(most))
    return next(times * power for times in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if times * power >= most)


def curves(panel, series, start, end, x, y, width, height):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    parts = frame(panel, x, y, width, height)
    left, right, top, bottom = x + 58, x + width - 10, y + 28, y + height - 44
    most = ceiling(max((value for _, points in series for _, value in points), default=0))
    for at in range(5):
        level = bottom - (bottom - top) * at / 4
        parts.append(f'<line x1="{left}" y1="{level:.1f}" x2="{right}" y2="{level:.1f}" stroke="{GRID}"/>')
        parts.append(text(left - 6, level + 4, short(most * at / 4, unit), 10, DIM, "end"))
    for at in range(4):
        moment = start + (end - start) * at / 3
        place = left + (right - left) * at / 3
        anchor = {0: "start", 3: "end"}.get(at, "middle")
        parts.append(text(place, bottom + 14, time.strftime("%H:%M:%S", time.gmtime(moment)), 10, DIM, anchor))
    for number, (_, points) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        # A gap of three steps is one.
        runs, last = [], None
        for at, value in points:
            if last is None or at - last > 3 * STEP:
                runs.append([])
            runs[-1].append((left + (right - left) * (at - start) / (end - start), bottom - (bottom - top) * value / most))
            last = at
        for run in runs:
            path = " ".join(f"{across:.1f},{up:.1f}" for across, up in run)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    if not series:
        parts.append(text((left + right) / 2, (top + bottom) / 2, "nothing of this kind happened", 11, DIM, "middle"))
    across, line = x + 10, 0
    for number, (label, _) in enumerate(series):
        wide = 20 + 6.0 * len(label)
        if across + wide > x + width - 4 and across > x + 10:
            across, line = x + 10, line + 1
        if line > 1:
            parts.append(text(x + width - 8, y + height - 6, f"+{len(series) - number}", 10, DIM, "end"))
            break
        level = y + height - 18 + line * 12
        parts.append(f'<rect x="{across}" y="{level - 6}" width="10" height="3" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(text(across + 14, level, label, 10))
        across += wide
    return parts


def stat(panel, series, _start, _end, x, y, width, height):
    defaults = panel["fieldConfig"]["defaults"]
    parts = frame(panel, x, y, width, height)
    for number, (label, points) in enumerate(series[:3] or [("", [(0, 0.0)])]):
        value = points[-1][1]
        steps = defaults.get("thresholds", {}).get("steps", [])
        red = any(step["value"] is not None and value >= step["value"] for step in steps)
        middle = y + height / 2 + 12 + (number - (len(series[:3] or [0]) - 1) / 2) * 48
        parts.append(text(x + width / 2, middle, short(value, defaults["unit"]), 36, "#d62839" if red else "#2a9d5c", "middle", True))
        if label and label != "value":
            parts.append(text(x + width / 2, middle + 16, label, 11, DIM, "middle"))
    return parts


def draw(title, board, prometheus, path):
    placed, silent = [], []
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) * UNIT + 60
    for panel in board["panels"]:
        grid = panel["gridPos"]
        x, y = grid["x"] * COLUMN + 10, grid["y"] * UNIT + 50
        width, tall = grid["w"] * COLUMN - GAP, grid["h"] * UNIT - GAP
        if panel["type"] == "row":
            placed.append(text(x + 2, y + 17, panel["title"], 14, bold=True))
            continue
        series = []
        for target in panel["targets"]:
            found = prometheus.range(expression(target["expr"]))
            if not found:
                silent.append(f"{title}: {panel['title']}: {target['expr']}")
            series += [(name(target["legendFormat"], labels), points) for labels, points in found]
        # What reaches highest is named first, for not all that stay at zero can be.
        series.sort(key=lambda one: -max(value for _, value in one[1]))
        paint = {"timeseries": curves, "stat": stat}[panel["type"]]
        placed += paint(panel, series, prometheus.start, prometheus.end, x, y, width, tall)
    width = 24 * COLUMN + 20
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(prometheus.end))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif">'
    ground = f'<rect width="{width}" height="{height}" fill="{GROUND}"/>'
    titles = [text(12, 30, title, 20, bold=True), text(width - 12, 30, when, 12, DIM, "end")]
    path.write_text("\n".join([head, ground, *titles, *placed, "</svg>"]) + "\n", encoding="utf-8")
    print(f"wrote {path}")
    return silent


def main(arguments):
    if len(arguments) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    prometheus = Prometheus(arguments[0], float(arguments[2]) if len(arguments) == 3 else 300)
    out = pathlib.Path(arguments[1])
    out.mkdir(parents=True, exist_ok=True)
    silent = []
    for short_name, title, panels, variables in generate.DASHBOARDS:
        board = generate.dashboard(short_name, title, panels(), variables)
        silent += draw(title, board, prometheus, out / f"dashboard-{short_name}.svg")
    for query in silent:
        print(f"found nothing: {query}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
