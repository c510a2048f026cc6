"""Alarms: each says what to look at, once."""

import numpy as np

from twoview.pretraining.alarms import FOREIGN_CHECKS, Alarms


def heard(losses: np.ndarray) -> list[str]:
    alarms = Alarms(quiet_until=400)
    return [words for step, loss in enumerate(losses) for words in alarms.loss(step, float(loss))]


def test_a_flat_loss() -> None:
    rng = np.random.default_rng(0)
    flat = 1 + 0.02 * rng.normal(size=2000)
    assert len(heard(flat)) == 1
    assert "--base-lr" in heard(flat)[0]
    assert heard(flat - np.linspace(0, 0.5, 2000)) == []
    late = flat.copy()
    late[400:] -= 0.4  # learnt, and at its end
    assert heard(late) == []


def test_a_second_view_that_is_ignored() -> None:
    alarms = Alarms(quiet_until=10)
    said = [words for step in range(0, 100, 5) for words in alarms.foreign(step, 0.001)]
    assert len(said) == 1
    assert "ignored" in said[0]
    assert not any(alarms.foreign(90, 0.2) for _ in range(FOREIGN_CHECKS))
    assert len([words for _ in range(FOREIGN_CHECKS) for words in alarms.foreign(90, 0.0)]) == 1  # again, when it had gone quiet


def test_a_loader_that_is_too_slow() -> None:
    alarms = Alarms(quiet_until=10)
    assert alarms.waiting(0.1) == []
    assert "--workers" in alarms.waiting(0.5)[0]
    assert alarms.waiting(0.5) == []
