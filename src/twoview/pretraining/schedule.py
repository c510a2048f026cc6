"""Learning rates and weight decay by the step."""

import math


def learning_rate(epoch: float, epochs: float, warm_up_epochs: float, peak: float, last: float = 0.0) -> float:
    """Linear from 0 over the warm-up, then half a cosine to `last`. epoch: with its fraction, so it moves with every step, as
    published (MAE, CroCo, MIMIC)."""
    if epoch < warm_up_epochs:
        return peak * epoch / warm_up_epochs
    return by_cosine((epoch - warm_up_epochs) / (epochs - warm_up_epochs), peak, last)


def by_cosine(share: float, first: float, last: float) -> float:
    """Half a cosine from first to last. share: of training that is done."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))
