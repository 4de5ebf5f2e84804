"""Plain text for people: aligned tables that fit 120 columns, and lists of facts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

WIDTH = 120
_GAP = "  "


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, wrapped: Sequence[str] = ()) -> str:
    """Return an aligned table; columns titled in ``wrapped`` may be broken into lines, and share what others leave."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    flexible = [index for index, title in enumerate(header) if title in wrapped]
    left = WIDTH - len(_GAP) * (len(widths) - 1) - sum(w for i, w in enumerate(widths) if i not in flexible)
    for place, index in enumerate(sorted(flexible, key=lambda index: widths[index])):
        # The narrow ones first: what they don't need, the wide ones get.
        widths[index] = min(widths[index], max(10, left // (len(flexible) - place)))
        left -= widths[index]
    lines = [_GAP.join(title.ljust(width) for title, width in zip(header, widths, strict=True)).rstrip()]
    lines.append(_GAP.join("-" * width for width in widths))
    for row in rows:
        cells = [textwrap.wrap(text, width) or [""] for text, width in zip(row, widths, strict=True)]
        for depth in range(max(map(len, cells))):
            parts = [(cell[depth] if depth < len(cell) else "").ljust(w) for cell, w in zip(cells, widths, strict=True)]
            lines.append(_GAP.join(parts).rstrip())
    return "\n".join(lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def facts(values: Mapping[str, str]) -> str:
    """Return lines of a name and what it is, aligned; long texts go on below themselves."""
    width = max(map(len, values), default=0) + len(_GAP)
    lines = []
    for name, text in values.items():
        wrapped = textwrap.wrap(text, WIDTH - width, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append(f"{name:{width}}{wrapped[0]}".rstrip())
        lines += [" " * width + line for line in wrapped[1:]]
    return "\n".join(lines)
