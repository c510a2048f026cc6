"""What a tiny CroCo has learnt: does it look at the second view, and do its features find the same places in two views?

Trained on rendered rooms and a little real video (the commands below), told on pairs that it never saw: another rendered scene, and
a real video of a kitchen. The loss is told with each pair's own second view and with that of another pair, under the same masks;
the interval is that of the mean difference of pairs. A patch's counterpart is the patch of b whose token is most like its own;
right is a neighbour of the true one, or it. The untrained encoder is that of a run's first step.

    D=../shared/data
    twoview curate $D/scene_apartment $D/scene_vr_gallery $D/scene_kitchen $D/scene_cube_room --recipe multiview_habitat --size 96 --out rooms
    twoview curate $D/videos_cotracker $D/videos_pi3 $D/video_sam2_bedroom --recipe paper --propose.seconds 0.3 --overlap 0.4:0.85 --size 96 --out real
    twoview pretrain rooms real:4 --recipe tiny_croco --epochs 12 --out run
    twoview curate $D/scene_garage --recipe multiview_habitat --size 96 --out held-room
    twoview curate $D/rgbd_video_redkitchen --recipe paper --propose.seconds 0.3 --overlap 0.4:0.85 --size 96 --out held-real
    .venv/bin/python benchmarks/tiny.py run held-room held-real
"""  # noqa: E501

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import twoview
from twoview.pretraining.augment import Swapped
from twoview.pretraining.checkpoints import read_checkpoint
from twoview.pretraining.data import Batch
from twoview.pretraining.loader import loader
from twoview.pretraining.masked import MaskedModel
from twoview.pretraining.order import Order, Share
from twoview.pretraining.pools import StoredPairs
from twoview.pretraining.vit import patchify


def batches(folder: Path, model: MaskedModel) -> list[Batch]:
    pool = StoredPairs(twoview.open(folder), labels=True)
    config = model.encoder.config
    places = Order(shares=(Share(size=len(pool)),), batch=min(32, len(pool)), epochs=1).batches(0, 32)
    return list(loader([pool], Swapped(size=config.image_px), config.patch_px, places, workers=0))


@torch.inference_mode()
def losses(model: MaskedModel, batch: Batch) -> torch.Tensor:
    """Of each pair."""
    values, hidden = model.predict(batch)
    target = model.targets(patchify(batch.a, model.encoder.config.patch_px))[0]
    errors = (values - target).square().mean(dim=2)
    return (errors * hidden).sum(dim=1) / hidden.sum(dim=1)


@torch.inference_mode()
def found(model: MaskedModel, batch: Batch) -> tuple[int, int]:
    """Patches of a that find theirs in b, and those that have one."""
    tokens = [torch.nn.functional.normalize(model.encoder(view)[:, 1:], dim=2) for view in (batch.a, batch.b)]
    best = (tokens[0] @ tokens[1].transpose(1, 2)).argmax(dim=2)
    true = batch.patches[:, 0].long()
    side = round(true.shape[1] ** 0.5)
    apart = torch.maximum((best // side - true // side).abs(), (best % side - true % side).abs())
    return int(((apart <= 1) & (true >= 0)).sum()), int((true >= 0).sum())


def main() -> None:
    run = Path(sys.argv[1])
    trained = read_checkpoint(run).model.eval()
    assert isinstance(trained, MaskedModel)
    torch.manual_seed(json.loads((run / "config.json").read_text())["config"]["seed"])
    untrained = MaskedModel(trained.config).eval()
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    tenth = len(lines) // 10
    first, last = (np.mean([line["loss"] for line in part]) for part in (lines[:tenth], lines[-tenth:]))
    print(f"{len(lines):,} steps; loss of the first tenth {first:.3f}, of the last {last:.3f}\n")
    print("| pairs | own b | foreign b | higher by | 95 % interval | patches found, untrained | trained |")
    print("|---|---|---|---|---|---|---|")
    for folder in map(Path, sys.argv[2:]):
        own, foreign, right = [], [], {"untrained": np.zeros(2), "trained": np.zeros(2)}
        for batch in batches(folder, trained):
            own.append(losses(trained, batch))
            foreign.append(losses(trained, replace(batch, b=batch.b.roll(len(batch.seeds) // 2, 0))))
            for name, model in (("untrained", untrained), ("trained", trained)):
                right[name] += found(model, batch)
        a, b = torch.cat(own).numpy(), torch.cat(foreign).numpy()
        difference = b - a
        half = 1.96 * difference.std(ddof=1) / len(difference) ** 0.5
        shares = {name: counts[0] / counts[1] for name, counts in right.items()}
        print(
            f"| {folder.name}, {len(a)} | {a.mean():.3f} | {b.mean():.3f} | {difference.mean() / a.mean():.1%} | "
            f"{(difference.mean() - half) / a.mean():.1%} to {(difference.mean() + half) / a.mean():.1%} | "
            f"{shares['untrained']:.1%} | {shares['trained']:.1%} |"
        )


if __name__ == "__main__":
    main()
