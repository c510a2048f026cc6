"""Reconstructions as a picture: a row for each pair."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

Picture = UInt8[np.ndarray, "h w 3"]

GAP_PX, LINE_PX, LEAST_PX = 6, 26, 224
PAPER, INK = (255, 255, 255), (30, 30, 30)


def panel(rows: Sequence[Sequence[tuple[str, Picture]]]) -> Picture:
    """Pictures of one size in rows, each with its words above it. Small ones are shown in larger pixels."""
    drawn = []
    for row in rows:
        cells = []
        for words, image in row:
            factor = -(-LEAST_PX // min(image.shape[:2]))
            image = image.repeat(factor, axis=0).repeat(factor, axis=1)
            height, width = image.shape[:2]
            cell = np.full((height + LINE_PX + GAP_PX, width + GAP_PX, 3), PAPER, np.uint8)
            cell[LINE_PX : LINE_PX + height, GAP_PX // 2 : GAP_PX // 2 + width] = image
            cv2.putText(cell, words, (GAP_PX // 2, LINE_PX - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
            cells.append(cell)
        drawn.append(np.hstack(cells))
    return np.vstack(drawn)
