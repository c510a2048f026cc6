"""The order of samples: what it promises is what a resumed run rests on."""

import numpy as np
import pytest

from twoview.errors import ConfigError
from twoview.pretraining.order import Order, Share


def order(*shares: Share, **fields) -> Order:
    return Order(**{"shares": shares or (Share(size=50),), "batch": 8, "epochs": 3, "seed": 4} | fields)


def all_of(what: Order, **fields) -> list:
    return [place for batch in what.batches(0, **{"micro": what.batch} | fields) for place in batch]


def test_every_sample_comes_once_an_epoch() -> None:
    places = all_of(order())
    assert len(places) == 3 * 48
    for epoch in range(3):
        own = [place.sample for place in places[48 * epoch : 48 * epoch + 48]]
        assert len(set(own)) == 48
    assert [p.sample for p in places[:48]] != [p.sample for p in places[48:96]]
    assert len({place.seed for place in places}) == len(places)


@pytest.mark.parametrize("first", [0, 1, 5, 6, 13, 17])
def test_it_goes_on_at_any_step(first: int) -> None:
    whole = list(order().batches(0, 8))
    assert list(order().batches(first, 8)) == whole[first:]


def test_processes_and_pieces_share_a_step() -> None:
    whole = all_of(order())
    apart = [list(order().batches(0, 2, rank, 2)) for rank in range(2)]
    joined = [place for step in range(18) for rank in range(2) for piece in apart[rank][2 * step : 2 * step + 2] for place in piece]
    assert joined == whole
    assert {len(piece) for piece in apart[0]} == {2}
    assert [len(piece) for piece in order().batches(0, 3, 0, 2)][:2] == [3, 1]


def test_other_seeds_other_orders() -> None:
    one, other = all_of(order()), all_of(order(seed=5))
    assert [p.sample for p in one] != [p.sample for p in other]
    assert not {p.seed for p in one} & {p.seed for p in other}


def test_weights() -> None:
    """Twice as often, half as often; of what comes half as often other samples in each epoch; pools are mixed."""
    places = all_of(order(Share(size=20, weight=2.0), Share(size=40, weight=0.5), batch=10, epochs=4))
    assert len(places) == 4 * 60
    for epoch in range(4):
        own = places[60 * epoch : 60 * epoch + 60]
        counts = np.bincount([p.sample for p in own if p.pool == 0], minlength=20)
        assert (counts == 2).all()
        assert len({p.sample for p in own if p.pool == 1}) == 20
        assert 0 < sum(p.pool for p in own[:30]) < 20
    seen = [{p.sample for p in places[60 * e : 60 * e + 60] if p.pool == 1} for e in range(4)]
    assert seen[0] != seen[1]


def test_a_curriculum_changes_with_the_run() -> None:
    easy = np.array([1, 2, 3])
    places = all_of(order(Share(size=24, allowed=((0.5, easy),)), batch=8, epochs=4))
    for epoch in range(4):
        own = {place.sample for place in places[24 * epoch : 24 * epoch + 24]}
        assert own == (set(easy.tolist()) if epoch < 2 else set(range(24)))
    shares = (Share(size=24, allowed=((0.25, easy), (0.75, np.arange(8)))), Share(size=24))  # within an epoch, of one pool of two
    places = all_of(order(*shares, batch=8, epochs=1))
    first, second, last = ({p.sample for p in part if p.pool == 0} for part in (places[:16], places[16:40], places[40:]))
    assert first <= set(easy.tolist())
    assert second <= set(range(8))
    assert not second <= set(easy.tolist())
    assert not last <= set(range(8))
    assert sum(p.pool == 1 for p in places) == 24
    with pytest.raises(ConfigError, match="allows no sample"):
        all_of(order(Share(size=24, allowed=((1.0, np.array([], int)),))))


def test_shards_come_whole() -> None:
    """Of ten shards of ten, twenty samples at a time are of two shards."""
    places = all_of(order(Share(size=100, starts=np.arange(0, 100, 10), window=20), batch=20, epochs=2))
    for start in range(0, 200, 20):
        assert len({place.sample // 10 for place in places[start : start + 20]}) == 2
    assert sorted(place.sample for place in places[:100]) == list(range(100))
    assert [place.sample for place in places[:20]] != sorted(place.sample for place in places[:20])


def test_a_number_of_steps() -> None:
    what = order(most_steps=8)
    assert what.steps == 8
    assert len(list(what.batches(0, 8))) == 8
    assert len(list(what.batches(7, 8))) == 1
    with pytest.raises(ConfigError, match="50 samples an epoch are fewer than a batch of 64"):
        order(batch=64)
