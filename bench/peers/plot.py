#!/usr/bin/env python3
"""Draws a kept comparison as an SVG: one bar for each program, as long as its process took.

    bench/peers/plot.py bench/results/DATE-peers.json > bench/results/peers.svg
"""

import json
import statistics
import sys
from xml.sax.saxutils import escape

WIDTH, LABEL, BAR, ROW, HEAD = 720, 250, 360, 22, 34
COLOURS = {"Quorate": "#2f6fde", "hand-written": "#7a8b99"}
OTHERS = "#b08a3e"


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__.strip())
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = json.load(file)["measured"]
    jobs = list(dict.fromkeys(row["job"] for row in rows))
    parts, top = [], 0
    for job in jobs:
        bars = sorted((wall_s(row), row["program"]) for row in rows if row["job"] == job)
        parts.append(text(0, top + 20, f"{job}: seconds of the whole process", "bold"))
        top += HEAD
        longest = bars[-1][0]
        for seconds, program in bars:
            parts.append(text(LABEL - 8, top + 15, program, anchor="end"))
            length = max(1.0, seconds / longest * BAR)
            parts.append(f'<rect x="{LABEL}" y="{top + 3}" width="{length:.1f}" height="16" fill="{colour(program)}"/>')
            parts.append(text(LABEL + length + 6, top + 15, f"{seconds:.2f}"))
            top += ROW
        top += 12
    body = "\n".join(parts)
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="13">')
    # Readable on white and on dark pages alike.
    print(f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>\n{body}\n</svg>')


def wall_s(row):
    return statistics.median(run["wall_s"] for run in row["runs"])


def colour(program):
    return next((colour for name, colour in COLOURS.items() if program.startswith(name)), OTHERS)


def text(x, y, content, weight="normal", anchor="start"):
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="#222">{escape(content)}</text>'


if __name__ == "__main__":
    main()
