"""The ratios as a drawing: a bar a point for PyTorch, marks for the others, on a logarithmic scale."""

import math
from html import escape

from comparison.report import GROUPS, NAMES, ratio, times

ROW, LEFT, WIDTH, RIGHT, TOP = 17, 330, 560, 70, 56
COLORS = {"torch": "#4878a8", "jax": "#c8642c", "onnx": "#3a8f5a"}


def draw(results, rivals):
    """An SVG, or None where there is nothing to draw."""
    rows = [r for g in GROUPS for r in results if r["point"].group == g and any(ratio(r, k) for k in rivals)]
    if not rows:
        return None
    values = [v for r in rows for k in rivals if (v := ratio(r, k))]
    low = min(0.5, *values)
    high = max(2.0, *values, *(r["point"].ratio_target() for r in rows))
    span = math.log(high / low)

    def at(value):
        return LEFT + WIDTH * math.log(value / low) / span

    def text(x, y, words, anchor="start", size=11, extra=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" {extra}>{escape(words)}</text>'

    body, y, group = [], TOP, None
    for r in rows:
        point = r["point"]
        if point.group != group:
            group = point.group
            y += ROW + 8
            body.append(text(LEFT - 8, y - 4, group, "end", 13, 'font-weight="bold"'))
        words = point.label + (", 2 threads" if point.threads == 2 else "")
        body.append(text(LEFT - 8, y + 12, words, "end"))
        value = ratio(r, "torch")
        if value:
            begin, end = sorted((at(1), at(value)))
            color = COLORS["torch"] if value >= 1 else "#b03030"
            body.append(f'<rect x="{begin:.1f}" y="{y + 3}" width="{end - begin:.1f}" height="{ROW - 6}" fill="{color}"/>')
            goal = at(point.ratio_target())
            body.append(f'<path d="M{goal:.1f} {y + 1}v{ROW - 2}" stroke="black" stroke-width="1.5"/>')
            body.append(text(LEFT + WIDTH + 8, y + 12, times(value)))
        for key in ("jax", "onnx"):
            if other := ratio(r, key):
                mark = f'<circle cx="{at(other):.1f}" cy="{y + ROW / 2}" r="3.6" fill="{COLORS[key]}" stroke="white"/>'
                body.append(mark)
        y += ROW
    bottom = y + 6

    grid = []
    for exponent in range(-3, 4):
        for digit in (1, 2, 5):
            value = digit * 10.0**exponent
            if low <= value <= high:
                width = 1.2 if value == 1 else 0.5
                grid.append(f'<path d="M{at(value):.1f} {TOP}V{bottom}" stroke="#999" stroke-width="{width}"/>')
                grid.append(text(at(value), bottom + 14, f"{value:g}×", "middle"))
    legend, x = [], LEFT
    for key in rivals:
        legend.append(f'<rect x="{x}" y="34" width="11" height="11" fill="{COLORS[key]}"/>')
        legend.append(text(x + 16, 44, NAMES[key]))
        x += 115
    legend.append(f'<path d="M{x} 33v13" stroke="black" stroke-width="1.5"/>')
    legend.append(text(x + 8, 44, "goal, against PyTorch"))
    title = text(LEFT, 22, "How many times faster a step of unroll is; red where it is slower", size=14, extra='font-weight="bold"')
    size = f'width="{LEFT + WIDTH + RIGHT}" height="{bottom + 26}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">',
            '<rect width="100%" height="100%" fill="white"/>',
            *(title, *legend, *grid, *body),
            "</svg>\n",
        ]
    )
