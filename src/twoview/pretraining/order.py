"""Which sample has which place in a run: a pure function of the seed, so that a run goes on at any step without any state."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ..errors import ConfigError

_GOLDEN, _LOW64 = 0x9E3779B97F4A7C15, (1 << 64) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Share:
    """What one pool gives to every epoch."""

    size: int
    """Samples in the pool."""
    weight: float = 1.0
    """How often each of them comes in an epoch; a fraction of a time is of other samples each epoch."""
    starts: Int64[np.ndarray, " s"] | None = None
    """Where its shards begin, for a pool whose shards are read as a whole. None: any sample at any time."""
    window: int = 0
    """With `starts`: shards come in random order, and samples are shuffled among so many at a time."""
    allowed: tuple[tuple[float, Int64[np.ndarray, " n"]], ...] = ()
    """A curriculum, in rising order: up to which share of the run only these samples come, and so more often."""

    @property
    def num(self) -> int:
        """Samples an epoch."""
        return round(self.size * self.weight)


class Place(NamedTuple):
    """A sample in a run."""

    pool: int
    sample: int
    """Its number in the pool."""
    seed: int
    """Of every random number that is drawn for it here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Epochs of steps of batches. A last batch that is not full is left out, as published."""

    shares: tuple[Share, ...]
    batch: int
    """Samples of a step, over all processes."""
    epochs: int
    seed: int = 0
    most_steps: int | None = None
    """Stops before the last epoch is over."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.epochs < 1:
            raise ConfigError("a batch and a number of epochs are 1 or more")
        if self.steps_per_epoch < 1:
            raise ConfigError(f"{self.num:,} samples an epoch are fewer than a batch of {self.batch:,}: more data, or --batch")

    @property
    def num(self) -> int:
        """Samples an epoch, those left out included."""
        return sum(share.num for share in self.shares)

    @property
    def steps_per_epoch(self) -> int:
        return self.num // self.batch

    @property
    def steps(self) -> int:
        steps = self.steps_per_epoch * self.epochs
        return steps if self.most_steps is None else min(steps, self.most_steps)

    def epoch(self, number: int) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """For each place of an epoch the number of its pool and of the sample in it."""
        pools = np.repeat(np.arange(len(self.shares)), [share.num for share in self.shares])
        pools = self._random(number, -1).permutation(pools)
        samples = np.empty(len(pools), np.int64)
        done = (number * self.steps_per_epoch + np.arange(len(pools)) // self.batch) / self.steps
        for i, share in enumerate(self.shares):
            stages = np.searchsorted([until for until, _ in share.allowed], done[pools == i], side="right")
            samples[pools == i] = self._samples(number, i, share, stages)
        return pools, samples

    def seeds(self, number: int, places: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Of the samples at places of an epoch: no two of a run are equal."""
        run = _mixed(self.seed + _GOLDEN)
        return ((places.astype(np.uint64) | np.uint64(number << 32)) ^ np.uint64(run)).view(np.int64)

    def batches(self, first: int, micro: int, rank: int = 0, ranks: int = 1) -> "Iterator[list[Place]]":
        """What a process sees from step `first` on: of each step's batch its part, in pieces of `micro` samples."""
        own = self.batch // ranks
        for epoch in range(first // self.steps_per_epoch, self.epochs):
            pools, samples = self.epoch(epoch)
            begin = first - epoch * self.steps_per_epoch
            end = min(self.steps_per_epoch, self.steps - epoch * self.steps_per_epoch)
            for step in range(max(begin, 0), end):
                start = step * self.batch + rank * own
                for at in range(start, start + own, micro):
                    places = np.arange(at, min(at + micro, start + own))
                    seeds = self.seeds(epoch, places)
                    yield [Place(*map(int, line)) for line in zip(pools[places], samples[places], seeds, strict=True)]

    def _samples(self, epoch: int, pool: int, share: Share, stages: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """As many as the pool gives: whole rounds of all, and of a last one the first. stages: of its places, those of a
        curriculum in turn; the last allows all."""
        found, round_ = [], 0
        for stage in np.unique(stages):
            missing = int((stages == stage).sum())
            while missing > 0:
                samples = self._round(share, self._random(epoch, pool, round_))
                if stage < len(share.allowed):
                    samples = samples[np.isin(samples, share.allowed[stage][1])]
                if not len(samples):
                    raise ConfigError("a stage of the curriculum allows no sample")
                found.append(samples[:missing])
                missing -= len(found[-1])
                round_ += 1
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _round(self, share: Share, random: np.random.Generator) -> Int64[np.ndarray, " n"]:
        if share.starts is None:
            return random.permutation(share.size)
        ends = np.append(share.starts[1:], share.size)
        shards = random.permutation(len(share.starts))
        samples = np.concatenate([np.arange(*map(int, (share.starts[shard], ends[shard]))) for shard in shards])
        for start in range(0, len(samples), max(share.window, 1)):
            random.shuffle(samples[start : start + share.window])
        return samples

    def _random(self, *names: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *(name + 1 for name in names)])


def _mixed(x: int) -> int:
    """splitmix64."""
    x &= _LOW64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _LOW64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _LOW64
    return x ^ x >> 31
