"""A run of seconds, which tests of training vary."""

import json
from dataclasses import replace
from pathlib import Path

from models_made import masked_config

import twoview
from twoview.pretraining.augment import CropsAndJitter, Swapped
from twoview.pretraining.pools import StoredPairs
from twoview.pretraining.settings import PretrainConfig, Source
from twoview.pretraining.train import Reporter

CONFIG = PretrainConfig(
    model=masked_config(),
    augment=CropsAndJitter(size=32, swap=True),
    epochs=4,
    warm_up_epochs=1.0,
    base_lr=5e-2,
    batch=4,
    micro_batch=2,
    workers=0,
    save_every=3,
    panel_every=0,
)
QUIET = Reporter(say=lambda words: None)
SHORT = replace(CONFIG, epochs=2, augment=Swapped(size=32))


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def source(dataset: Path, **fields) -> Source:
    return Source(pool=StoredPairs(twoview.open(dataset)), **fields)
