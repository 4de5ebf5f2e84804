"""A memory cell that is a graph as a picture, SVG that needs nothing else. Free of torch.

Numbers flow from top to bottom. At the top stand x, h and the memories as the step finds them; at the bottom, dashed,
what the next step finds there. Boxes are laid out in layers: a box stands below all that it reads, boxes of a layer are
ordered by where their neighbours stand, and lines go through a place of their own in every layer that they cross.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from rlstm.core.cell_graphs import INPUT, LAST_OUTPUT, CellGraph
from rlstm.core.errors import FigureError
from rlstm.core.files import write_atomically

_SIGNS = {"sum": "+", "product": "×", "sigmoid": "σ", "linear": "W x + R h + b"}
_COLOURS = {"linear": "#dbe8f8", "sum": "#e4f2df", "product": "#fbe8d0", "memory": "#eee4f7", "output": "#f8dede"}
_PLAIN = "#f1f1f1"
_FONTS = "Helvetica, Arial, DejaVu Sans, sans-serif"
_HEIGHT, _ROW, _GAP, _EDGE = 38, 84, 18, 20  # Of a box, from layer to layer, between boxes, around all; in pixels.
_CHARACTER, _CROSSING = 7.8, 10  # Width of a letter, and of the place of a line that crosses a layer.
_SWEEPS = 24

Place = Hashable  # A box by its key, or where a line crosses a layer: (from, to, layer).


@dataclass(frozen=True)
class _Box:
    name: str
    sign: str
    colour: str = _PLAIN
    is_next: bool = False  # What the next step finds.

    @property
    def width(self) -> float:
        return max(len(self.name), len(self.sign), 4) * _CHARACTER + 16


def draw_cell(graph: CellGraph, title: str = "memory cell") -> str:
    """Return a picture of a cell as the text of an SVG file.

    Args:
        graph: The cell.
        title: For readers of screens, and for those who point at it.
    """
    boxes, links = _boxes(graph), _links(graph)
    layers, paths = _layers(boxes, links)
    neighbours = _neighbours(paths)
    _order(layers, neighbours)
    widths = {place: boxes[place].width if place in boxes else _CROSSING for layer in layers for place in layer}
    left = _spread(layers, neighbours, widths)
    top = {place: _EDGE + depth * _ROW for depth, layer in enumerate(layers) for place in layer}
    width = max(left[place] + widths[place] / 2 for place in left) + _EDGE
    height = _EDGE * 2 + (len(layers) - 1) * _ROW + _HEIGHT
    lines = [_line([(left[place], top[place]) for place in path], path[-1] in boxes) for path in paths]
    drawn = [_draw(boxes[key], left[key], top[key]) for layer in layers for key in layer if key in boxes]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="{_FONTS}" font-size="12" text-anchor="middle">'
    )
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#555"/></marker></defs>'
    )
    paper = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", arrow, paper, *lines, *drawn, "</svg>"]) + "\n"


def write_picture(graph: CellGraph, path: Path, title: str) -> None:
    """Draw a cell into a file.

    Raises:
        FigureError: If it can't be written.
    """
    try:
        write_atomically(path, draw_cell(graph, title).encode())
    except OSError as error:
        raise FigureError(f"The picture can't be written to {path}: {error.strerror or error}.") from error


def _boxes(graph: CellGraph) -> dict[Place, _Box]:
    """Return what is drawn: the sources, the nodes, and what the next step finds."""
    boxes: dict[Place, _Box] = {INPUT: _Box("x", "input")}
    if graph.reads_last_output:
        boxes[LAST_OUTPUT] = _Box("h", "last output", _COLOURS["output"])
    for node in graph.nodes:
        sign = _SIGNS.get(node.op, node.op)
        if node.op == "linear":
            parts = [part for read, part in ((INPUT, "W x"), (LAST_OUTPUT, "R h")) if read in node.reads]
            sign = " + ".join([*parts, f"b from {node.bias:g}" if node.bias else "b"])
        boxes[node.name] = _Box(node.name, sign, _COLOURS.get(node.op, _PLAIN))
    for node in graph.of_op("memory"):
        boxes["next", node.name] = _Box(node.name, "next step", _COLOURS["memory"], is_next=True)
    boxes["next", LAST_OUTPUT] = _Box("h" if graph.reads_last_output else "output", "output", _COLOURS["output"], True)
    return boxes


def _links(graph: CellGraph) -> list[tuple[Place, Place]]:
    """Return from which box to which lines go."""
    links: list[tuple[Place, Place]] = []
    for node in graph.nodes:
        target: Place = ("next", node.name) if node.op == "memory" else node.name
        links += [(read, target) for read in node.reads]
    return [*links, (graph.output, ("next", LAST_OUTPUT))]


def _layers(
    boxes: Mapping[Place, _Box], links: Sequence[tuple[Place, Place]]
) -> tuple[list[list[Place]], list[list[Place]]]:
    """Return the places of each layer, and the places that each line passes."""
    depths: dict[Place, int] = {}

    def depth(key: Place) -> int:
        if key not in depths:
            depths[key] = max((depth(source) + 1 for source, target in links if target == key), default=0)
        return depths[key]

    last = max(map(depth, boxes))
    depths |= {key: last for key, box in boxes.items() if box.is_next}
    layers: list[list[Place]] = [[key for key in boxes if depths[key] == level] for level in range(last + 1)]
    paths: list[list[Place]] = []
    for source, target in links:
        crossed: list[Place] = [(source, target, level) for level in range(depths[source] + 1, depths[target])]
        for level, place in enumerate(crossed, depths[source] + 1):
            layers[level].append(place)
        paths.append([source, *crossed, target])
    return layers, paths


def _neighbours(paths: Iterable[Sequence[Place]]) -> dict[Place, list[Place]]:
    """Return which places are joined by a line from one layer to the next."""
    joined: dict[Place, list[Place]] = {}
    for path in paths:
        for upper, lower in pairwise(path):
            joined.setdefault(upper, []).append(lower)
            joined.setdefault(lower, []).append(upper)
    return joined


def _order(layers: list[list[Place]], neighbours: Mapping[Place, Sequence[Place]]) -> None:
    """Order the places of each layer by the mean place of their neighbours, from the top and from the bottom."""
    for sweep in range(_SWEEPS):
        pairs = list(pairwise(layers))
        for upper, lower in pairs if sweep % 2 == 0 else reversed(pairs):
            fixed, moved = (upper, lower) if sweep % 2 == 0 else (lower, upper)
            at = {place: (index + 0.5) / len(fixed) for index, place in enumerate(fixed)}
            here = {place: (index + 0.5) / len(moved) for index, place in enumerate(moved)}
            near = {place: [at[one] for one in neighbours.get(place, ()) if one in at] for place in moved}
            wish = {place: _mean(near[place], here[place]) for place in moved}
            moved.sort(key=wish.__getitem__)


def _spread(
    layers: Sequence[Sequence[Place]], neighbours: Mapping[Place, Sequence[Place]], widths: Mapping[Place, float]
) -> dict[Place, float]:
    """Return where the middle of each place is from left to right: near its neighbours, none upon another."""
    middle: dict[Place, float] = {}
    for layer in layers:
        middle |= _apart(layer, dict.fromkeys(layer, 0.0), widths)
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wish = {place: _mean([middle[one] for one in neighbours.get(place, ())], middle[place]) for place in layer}
            middle |= _apart(layer, wish, widths)
    least = min(middle[place] - widths[place] / 2 for place in middle)
    return {place: at - least + _EDGE for place, at in middle.items()}


def _apart(layer: Sequence[Place], wish: Mapping[Place, float], widths: Mapping[Place, float]) -> dict[Place, float]:
    """Return middles near those wished for, in the order of the layer, that leave every place its width."""
    least = [0.0]
    for one, other in pairwise(layer):
        least.append(least[-1] + (widths[one] + widths[other]) / 2 + _GAP)
    # With the least distances taken off, what is wanted is a rising row: the mean of the two nearest ones.
    wanted = [wish[place] - offset for place, offset in zip(layer, least, strict=True)]
    rising, falling = list(wanted), list(wanted)
    for index in range(1, len(wanted)):
        rising[index] = max(rising[index], rising[index - 1])
        falling[-index - 1] = min(falling[-index - 1], falling[-index])
    return {
        place: (low + high) / 2 + offset for place, low, high, offset in zip(layer, falling, rising, least, strict=True)
    }


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _line(points: Sequence[tuple[float, float]], has_arrow: bool) -> str:
    """Return a line through the middles of places, from the lower edge of the first to the upper one of the last."""
    (x, y), *others = points
    y += _HEIGHT
    parts = [f"M{x:.1f} {y:.1f}"]
    for index, (to_x, to_y) in enumerate(others, 1):
        bend = (to_y - y) / 2
        parts.append(f"C{x:.1f} {y + bend:.1f} {to_x:.1f} {to_y - bend:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
        if index < len(others):
            y += _HEIGHT
            parts.append(f"L{x:.1f} {y:.1f}")
    marker = ' marker-end="url(#arrow)"' if has_arrow else ""
    return f'<path d="{" ".join(parts)}" fill="none" stroke="#555" stroke-width="1.2"{marker}/>'


def _draw(box: _Box, middle: float, top: float) -> str:
    """Return a box with its name and what it computes."""
    dashes = ' stroke-dasharray="4 3"' if box.is_next else ""
    return (
        f'<rect x="{middle - box.width / 2:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{_HEIGHT}" rx="6" '
        f'fill="{box.colour}" stroke="#333"{dashes}/>'
        f'<text x="{middle:.1f}" y="{top + 16:.1f}" font-weight="bold">{escape(box.name)}</text>'
        f'<text x="{middle:.1f}" y="{top + 31:.1f}" fill="#333">{escape(box.sign)}</text>'
    )
