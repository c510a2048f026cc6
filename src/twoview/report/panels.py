"""Reconstructions as a picture: a row for each pair."""

from collections.abc import Sequence

import cv2
import numpy as np

from ..pretraining.reconstruct import Picture, Reconstruction

GAP_PX, LINE_PX, LEAST_PX = 6, 26, 224
PAPER, INK = (255, 255, 255), (30, 30, 30)


def row(a: Picture, done: Reconstruction, b: Picture | None) -> list[tuple[str, Picture]]:
    """What there is to see of one pair, in the order of sight; b is last, where there is one."""
    shown = [("a", a), ("hidden", done.hidden), ("given", done.given), (f"predicted, loss {done.loss:.3f}", done.predicted)]
    return shown if b is None else [*shown, ("b", b)]


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
