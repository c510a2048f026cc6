"""DINO: its loss beside the formula in plain numpy, its teacher, its centre, several processes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from models_made import batch, encoder_config, pictures, shaken

from twoview.errors import ConfigError
from twoview.pretraining.dino import DINO, DINOConfig, dino, dino_loss


def config(**fields) -> DINOConfig:
    encoder = encoder_config(positions="learned", **fields)
    return DINOConfig(encoder=encoder, hidden=16, bottleneck=8, outputs=24)


def softmax(x: np.ndarray) -> np.ndarray:
    raised = np.exp(x - x.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def test_loss_is_the_formula() -> None:
    """H(P_t, P_s) of the paper: for each global view of the teacher and each other view of the student."""
    rng = np.random.default_rng(0)
    said, taught = rng.normal(size=(5, 4, 24)), rng.normal(size=(2, 4, 24))
    centre = rng.normal(size=(1, 24))
    terms = [
        -(softmax((taught[t] - centre) / 0.04) * np.log(softmax(said[s] / 0.1))).sum(axis=1).mean()
        for t in range(2)
        for s in range(5)
        if s != t
    ]
    assert len(terms) == 8
    loss = dino_loss(*(list(torch.from_numpy(x)) for x in (said, taught)), torch.from_numpy(centre), 0.1, 0.04)
    assert float(loss) == pytest.approx(np.mean(terms), rel=1e-6)


def test_head_is_the_formula() -> None:
    """Three layers, a direction, and its cosine with each prototype."""
    model = shaken(DINO(config()))
    head = model.student.head
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in head.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(3, 32))
    y = x
    for layer in (0, 2, 4):
        y = y @ weights[f"mlp.{layer}.weight"].T + weights[f"mlp.{layer}.bias"]
        y = torch.nn.functional.gelu(torch.from_numpy(y)).numpy() if layer < 4 else y
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    prototypes = weights["last_layer.weight_v"] / np.linalg.norm(weights["last_layer.weight_v"], axis=1, keepdims=True)
    assert (weights["last_layer.weight_g"] == 1).all()
    np.testing.assert_allclose(head(torch.from_numpy(x).float()).detach().numpy(), y @ prototypes.T, atol=1e-5)


def test_crops_of_several_sizes_are_the_formula_of_each_alone() -> None:
    model = shaken(DINO(config())).train()
    crops = (pictures(2, (16, 16), 3), pictures(2, (16, 16), 4), pictures(2, (24, 16), 5))
    given = batch(crops=crops)
    views = (given.a, given.b, *crops)
    with torch.no_grad():
        said = [model.student.head(model.student.backbone(view)[:, 0]) for view in views]
        taught = [model.teacher.head(model.teacher.backbone(view)[:, 0]) for view in views[:2]]
    expected = dino_loss(said, taught, model.centre.clone(), 0.1, 0.04)
    torch.testing.assert_close(model(given)["loss"], expected)
    model(given)  # another piece of the step's batch
    model.after_step(0.0)
    torch.testing.assert_close(model.centre, 0.1 * torch.cat(taught).mean(dim=0, keepdim=True))
    with pytest.raises(ConfigError, match="two global crops"):
        model(batch(b=None))


def test_the_teacher_follows_and_only_the_student_learns() -> None:
    model = DINO(config())
    for one, other in zip(model.student.parameters(), model.teacher.parameters(), strict=True):
        assert torch.equal(one, other)
    model(batch())["loss"].backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert all(parameter.grad is not None for parameter in model.student.parameters())
    before = [parameter.clone() for parameter in model.teacher.parameters()]
    shaken(model.student)
    model.after_step(0.5)
    for was, now, student in zip(before, model.teacher.parameters(), model.student.parameters(), strict=True):
        torch.testing.assert_close(now, 0.996 * was + 0.004 * student)
    before = [parameter.clone() for parameter in model.teacher.parameters()]
    model.after_step(1.0)
    for was, now, student in zip(before, model.teacher.parameters(), model.student.parameters(), strict=True):
        torch.testing.assert_close(now, 0.998 * was + 0.002 * student)
    assert model.encoder is model.teacher.backbone


def test_schedules() -> None:
    model = DINO(config())
    temperatures = []
    for progress in (0.0, 0.0625, 0.125, 1.0):
        model.progress = progress
        temperatures.append(model.teacher_temperature)
    assert temperatures == pytest.approx([0.04, 0.055, 0.07, 0.07])
    for progress, frozen in ((0.0, True), (0.5, False)):
        model.progress = progress
        model.zero_grad()
        model(batch())["loss"].backward()
        model.before_step()
        assert (model.student.head.last_layer.weight_v.grad is None) == frozen
        assert model.student.head.mlp[0].weight.grad is not None


def test_published_sizes() -> None:
    assert (dino().outputs, dino().encoder.positions, dino("S").encoder.width) == (65_536, "learned", 384)
    with pytest.raises(ConfigError, match="temperatures"):
        DINOConfig(student_temperature=0)


def test_crops_drop_other_paths() -> None:
    """The same picture twice in a batch of crops has other draws; the teacher has none."""
    model = shaken(DINO(config(drop_path=0.5, depth=6))).train()
    views = (pictures(8),) * 2
    one, other = model.student(views, torch.arange(8))
    assert not torch.allclose(one, other, atol=1e-4)
    one, other = model.teacher(views)
    torch.testing.assert_close(one, other)


def test_bfloat16_and_one_graph() -> None:
    model = shaken(DINO(config()))
    exact = model(batch())["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(batch())["loss"], exact, rtol=0.01, atol=0)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(batch())["loss"], exact)


def test_options_that_cannot_be() -> None:
    for fields in ({"momentum": 2}, {"frozen": -1}, {"outputs": 0}):
        with pytest.raises(ConfigError, match="DINO"):
            DINOConfig(**fields)


def _centre_of_half(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = shaken(DINO(config())).train()
    half = slice(2 * rank, 2 * rank + 2)
    whole = batch(4)
    model(batch(2, a=whole.a[half], b=whole.b[half]))  # pyright: ignore[reportOptionalSubscript]
    model.after_step(0.0)
    torch.save(model.centre, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_the_centre_is_of_all_processes(tmp_path: Path) -> None:
    mp.spawn(_centre_of_half, (str(tmp_path),), nprocs=2)
    torch.manual_seed(0)
    model = shaken(DINO(config())).train()
    model(batch(4))
    model.after_step(0.0)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), model.centre)
