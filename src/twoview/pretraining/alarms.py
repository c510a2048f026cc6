"""What a run looks at while it goes: each alarm says what to look at."""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

FOREIGN_CHECKS = 8
LEAST_GAIN = 0.005
MOST_WAITING = 0.25


@dataclass(kw_only=True)
class Alarms:
    """Each is given once, and again only when it had gone quiet."""

    quiet_until: int
    """Step before which nothing is to be expected: the end of the warm-up and a little more."""
    losses: list[float] = field(default_factory=list)
    """From the first step on."""
    gains: deque[float] = field(default_factory=lambda: deque(maxlen=FOREIGN_CHECKS))
    """Of the loss with a foreign second view over that with the true one, as shares of it."""
    raised: set[str] = field(default_factory=set)

    def loss(self, step: int, loss: float) -> list[str]:
        """After a step. Words, if there is something to say."""
        self.losses.append(loss)
        window = max(50, self.quiet_until // 4)
        if step < self.quiet_until or len(self.losses) < 2 * window or len(self.losses) % window:
            return []
        before, now = (np.array(self.losses[-2 * window : -window]), np.array(self.losses[-window:]))
        error = math.sqrt((before.var() + now.var()) / window)
        flat = before.mean() - now.mean() < 3 * error and now.mean() > 0.97 * max(np.mean(self.losses[:window]), 1e-12)
        return self._say(
            "flat",
            flat,
            f"the loss is as it was at first, {now.mean():.3f}: look at --base-lr (is it too small, or so large that "
            "nothing is learnt?), and at the panels: are the pictures what they should be?",
        )

    def foreign(self, step: int, gain: float) -> list[str]:
        """After a look at a batch with the second views of others."""
        self.gains.append(gain)
        ready = len(self.gains) == FOREIGN_CHECKS and step >= self.quiet_until
        mean = float(np.mean(self.gains))
        return self._say(
            "foreign",
            ready and mean < LEAST_GAIN,
            f"the second view is ignored: with that of another pair the loss is {mean:+.1%} "
            "higher. Look at the pairs (twoview audit): do they show the same things? Early in training this is common",
        )

    def waiting(self, share: float) -> list[str]:
        """After a while, of whose time a share went by waiting for the loader."""
        return self._say(
            "waiting",
            share > MOST_WAITING,
            f"{share:.0%} of the time goes by waiting for the loader: more --workers, a faster disk, "
            "or smaller pictures on it (curate --size)",
        )

    def _say(self, name: str, is_so: bool, words: str) -> list[str]:
        if not is_so:
            self.raised.discard(name)
            return []
        if name in self.raised:
            return []
        self.raised.add(name)
        return [words]
