"""Batches in the order of a run, whatever the number of processes that fetch them."""

import signal
import traceback
from collections.abc import Generator, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, TwoviewError
from .augment import Augment, Views
from .data import Batch
from .order import Place
from .pools import Pool


class Samples(torch.utils.data.Dataset):
    """Batches by the places of their samples; an error comes back as a value, to be raised where the run is."""

    def __init__(self, pools: Sequence[Pool], augment: Augment, patch_px: int) -> None:
        self.pools, self.augment, self.patch_px = pools, augment, patch_px

    def __getitems__(self, places: Sequence[Place]) -> Batch | Exception:
        try:
            return together([self._views(place) for place in places], [place.seed for place in places])
        except TwoviewError as error:
            return error
        except Exception:  # of an augment or a pool of the user's
            return RuntimeError(f"while fetching samples:\n{traceback.format_exc()}")

    def _views(self, place: Place) -> Views:
        random = np.random.default_rng(place.seed & (1 << 63) - 1)
        return self.augment(self.pools[place.pool][place.sample], random, self.patch_px)


def together(views: Sequence[Views], seeds: Sequence[int]) -> Batch:
    """One batch. Raises ConfigError where its pictures are of several sizes."""
    sizes = {view.a.shape for view in views}
    if len(sizes) > 1 or len({view.b is None for view in views}) > 1:
        raise ConfigError("a batch has pictures of several sizes, or pairs and single pictures: pools of one kind go together")
    crops = zip(*(view.crops for view in views), strict=True)
    patches = [view.patches for view in views if view.patches is not None]
    points = [view.points for view in views if view.points is not None]
    return Batch(
        a=_stacked([view.a for view in views]),
        b=None if views[0].b is None else _stacked([view.b for view in views]),
        seeds=torch.tensor(seeds),
        crops=tuple(_stacked(list(crop)) for crop in crops),
        patches=torch.from_numpy(np.stack(patches)) if len(patches) == len(views) else None,
        points=_padded(points) if len(points) == len(views) else None,
    )


def _stacked(pictures: Sequence) -> Tensor:
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2))


def _padded(points: Sequence) -> Tensor:
    found = np.full((len(points), max(map(len, points)), 4), np.nan, np.float32)
    for i, own in enumerate(points):
        found[i, : len(own)] = own
    return torch.from_numpy(found)


def loader(
    pools: Sequence[Pool], augment: Augment, patch_px: int, batches: Iterable[list[Place]], workers: int, pin: bool = False
) -> Generator[Batch]:
    """Batches in the order of `batches`, whatever the number of processes that fetch them (0: this one)."""
    fetched = torch.utils.data.DataLoader(
        Samples(pools, augment, patch_px),
        batch_sampler=batches,  # pyright: ignore[reportArgumentType]
        collate_fn=_as_it_is,  # pyright: ignore[reportArgumentType]
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=pin,
        worker_init_fn=_prepare,
    )
    iterator = iter(fetched)
    try:
        for batch in iterator:
            if isinstance(batch, Exception):
                raise batch
            yield batch
    finally:
        if workers:
            iterator._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue] - they are deaf to signals, and a traceback may hold it


def _as_it_is(batch: Batch | Exception) -> Batch | Exception:
    return batch


def _prepare(worker: int) -> None:
    """One thread; Ctrl-C and a scheduler's SIGTERM are for the run, which saves and then ends this process."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
