"""Pictures: `draw_text`, with which a task that draws no picture of its own shows its text, and `enlarge`.

In a text every character is a glyph of 3 x 5 points, and its picture has one size, whatever it says, as films need.
"""

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import BoolArray

ROWS, COLUMNS = 14, 52  # Of characters: the boards and the status lines of our tasks.
POINT = 2  # pixels
INK, PAPER = (40, 40, 40), (245, 245, 245)
COLOURS = {"#": (90, 90, 90), "@": (200, 60, 50), "X": (200, 60, 50), "G": (40, 150, 60), "$": (40, 150, 60)}

# Five rows of three points each, from the top, as octal digits. What is not here is drawn as a block.
FONT = """
    0:75557 1:26227 2:71747 3:71717 4:55711 5:74717 6:74757 7:71111 8:75757 9:75717
    A:25755 B:65656 C:34443 D:65556 E:74647 F:74644 G:34553 H:55755 I:72227 J:11152 K:55655 L:44447 M:57755
    N:65555 O:25552 P:65644 Q:25563 R:65655 S:34216 T:72222 U:55557 V:55552 W:55775 X:55255 Y:55222 Z:71247
    .:00002 ,:00024 ::02020 ;:02024 !:22202 ?:61202 +:02720 -:00700 *:52725 /:11244 |:22222 _:00007 =:07070
    (:12221 ):42224 [:64446 ]:31113 <:12421 >:42124 %:51245 @:25743 $:36236 ^:25000 ':22000
"""
GLYPHS: dict[str, BoolArray] = {
    pair[0]: np.array([[digit >> shift & 1 for shift in (2, 1, 0)] for digit in map(int, pair[2:])], dtype=np.bool_)
    for pair in FONT.split()
}
GLYPHS[" "], BLOCK = np.zeros((5, 3), dtype=np.bool_), np.ones((5, 3), dtype=np.bool_)


def draw_text(text: str) -> npt.NDArray[np.uint8]:
    """Draw a text; lines that are too long go on in the next one, and what does not fit at the end is left out.

    Returns:
        An image (height, width, 3).
    """
    points = np.full((ROWS * 6, COLUMNS * 4, 3), PAPER, dtype=np.uint8)
    lines = [line[start : start + COLUMNS] for line in text.split("\n") for start in range(0, len(line), COLUMNS)]
    for row, line in enumerate(lines[:ROWS]):
        for column, character in enumerate(line):
            cell = points[6 * row : 6 * row + 5, 4 * column : 4 * column + 3]
            cell[GLYPHS.get(character.upper(), BLOCK)] = COLOURS.get(character, INK)
    return points.repeat(POINT, axis=0).repeat(POINT, axis=1)


def enlarge(cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an image with a square for each of `cells`, colours (height, width, 3), at most 640 pixels wide."""
    side = int(np.clip(640 // cells.shape[1], 2, 32))
    return cells.repeat(side, axis=0).repeat(side, axis=1)
