"""MAE and CroCo: masks, losses, and what runs on other devices, as far as a CPU can tell."""

import sys
from pathlib import Path

import pytest
import torch
from models_made import batch, encoder_config, masked_config, pictures, pixels_of, shaken

from twoview.errors import ConfigError
from twoview.pretraining.decoder import DecoderConfig
from twoview.pretraining.draws import draw_patches, uniform
from twoview.pretraining.masked import MaskedModel, croco, mae
from twoview.pretraining.published import Hints, understand
from twoview.pretraining.vit import patchify

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from plain_croco import PlainCroCo

VARIANTS = {
    "mae": masked_config(second_view=False),
    "mimic": masked_config(),
    "croco_v1": masked_config(encoder=encoder_config(class_token=False), round_down="hidden"),
    "croco_v2": masked_config(encoder=encoder_config(class_token=False, positions="rotary"), round_down="hidden"),
}


def test_published_numbers_of_patches() -> None:
    assert 196 - mae().num_hidden(196) == 49
    assert 196 - croco("mimic").num_hidden(196) == 19
    assert 196 - croco("croco_v1").num_hidden(196) == 20
    assert 196 - croco("croco_v2").num_hidden(196) == 20
    assert croco("mimic").encoder.class_token
    assert not croco("croco_v1").encoder.class_token
    assert (croco("croco_v2").encoder.positions, croco("croco_v2").decoder.width, croco("croco_v2").decoder.depth) == (
        "rotary",
        768,
        12,
    )
    with pytest.raises(ConfigError, match="mimic, croco_v1, croco_v2"):
        croco("croco_v3")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="a share between 0 and 1"):
        masked_config(mask_ratio=1.0)
    with pytest.raises(ConfigError, match="heads of a width that 4 divides"):
        masked_config(encoder=encoder_config(positions="rotary"), decoder=DecoderConfig(width=16, depth=1, heads=8))
    with pytest.raises(ConfigError, match="hides 4: some must be hidden, some shown"):
        masked_config(mask_ratio=0.9).num_hidden(4)


def test_against_the_plain_model() -> None:
    """The literal reference, at sizes and pictures that the fixtures have not."""
    plain = shaken(PlainCroCo(width=64, depth=3, heads=4, dec_width=32, dec_depth=2, dec_heads=2, image_px=48, patch_px=8))
    model = understand(plain.state_dict(), Hints(heads=4, decoder_heads=2)).model
    assert isinstance(model, MaskedModel)
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(3, 3, 48, 48, generator=generator) for _ in "ab")
    seeds = torch.arange(3)
    visible, hidden = model.split(batch(3, (48, 48), seeds=seeds))
    mask = torch.zeros(3, 36, dtype=torch.bool).scatter_(1, hidden, True)
    assert visible.shape[1] == int(36 * (1 - 0.9))
    expected, predicted = plain(a, b, mask)
    for given in (None, mask):  # the same mask, drawn or given
        both = batch(3, (48, 48), a=a, b=b, seeds=seeds, hidden=given)
        torch.testing.assert_close(model(both)["loss"], expected)
        torch.testing.assert_close(model.predict(both)[0], predicted, rtol=1e-5, atol=1e-5)
        assert torch.equal(model.predict(both)[1], mask)


@pytest.mark.parametrize("name", VARIANTS)
def test_only_hidden_patches_count(name: str) -> None:
    """The loss is that of the hidden patches of all predictions, and does not see the hidden pixels but as its target."""
    model = shaken(MaskedModel(VARIANTS[name]))
    given = batch(4)
    values, mask = model.predict(given)
    target = model.targets(patchify(given.a, 8))[0]
    torch.testing.assert_close(model(given)["loss"], (values - target)[mask].square().mean())
    assert int(mask.sum()) == 4 * 12
    other = torch.where(pixels_of(mask), pictures(4, seed=9), given.a)
    torch.testing.assert_close(model.predict(batch(4, a=other))[0], values, rtol=0, atol=0)


def test_the_second_view_matters_to_croco_alone() -> None:
    for name in VARIANTS:
        model = shaken(MaskedModel(VARIANTS[name]))
        one, other = model(batch())["loss"], model(batch(b=pictures(seed=7)))["loss"]
        assert torch.equal(one, other) == (name == "mae")
    with pytest.raises(ConfigError, match="needs a second view, of the size of the first"):
        MaskedModel(VARIANTS["mimic"])(batch(b=None))


def test_masks_that_cannot_be() -> None:
    model = MaskedModel(VARIANTS["mimic"])
    uneven = torch.zeros(2, 16, dtype=torch.bool)
    uneven[0, :3] = uneven[1, :4] = True
    none, every, small = torch.zeros(2, 16), torch.ones(2, 16), torch.ones(2, 9)
    for mask in (uneven, none.bool(), every.bool(), small.bool()):
        with pytest.raises(ConfigError, match="a mask for 4 x 4 patches"):
            model(batch(hidden=mask))


def test_a_mask_follows_from_the_seed_alone() -> None:
    seeds = torch.tensor([3, 1 << 40, -5, 3])
    visible, hidden = draw_patches(seeds, 196, 177)
    assert torch.equal(visible[0], visible[3])
    assert torch.equal(draw_patches(seeds[1:3], 196, 177)[0], visible[1:3])
    assert torch.equal(torch.cat([visible, hidden], 1).sort(dim=1).values, torch.arange(196).expand(4, -1))
    assert (visible[0] != visible[1]).any()
    assert (visible.diff(dim=1) > 0).all()


def test_two_views_drop_other_paths() -> None:
    model = shaken(MaskedModel(masked_config(encoder=encoder_config(drop_path=0.6, depth=4)))).train()
    same = pictures(6)
    seen = []
    model.encoder.register_forward_hook(lambda *call: seen.append(call[2]))
    visible = torch.arange(16).expand(6, -1)
    model.encoder(same, visible, torch.arange(6))
    model._memory(batch(6, a=same, b=same))
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)


def test_every_patch_is_hidden_as_often() -> None:
    """Of 20,000 seeds in a row, which is what a loader counts; and neighbours in pairs as often as by chance."""
    hidden = torch.zeros(20_000, 16).scatter_(1, draw_patches(torch.arange(20_000), 16, 12)[1], 1)
    assert (hidden.mean(dim=0) - 0.75).abs().max() < 5 * (0.75 * 0.25 / 20_000) ** 0.5
    together = (hidden.T @ hidden / 20_000)[~torch.eye(16, dtype=torch.bool)]
    assert (together - 12 / 16 * 11 / 15).abs().max() < 5 * (0.55 * 0.45 / 20_000) ** 0.5
    following = (hidden[1:] * hidden[:-1]).mean(dim=0)
    assert (following - 0.75**2).abs().max() < 5 * (0.5625 * 0.4375 / 20_000) ** 0.5
    numbers = uniform(torch.arange(20_000), 2, 8)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert (numbers.mean(dim=0) - 0.5).abs().max() < 5 * (1 / 12 / 20_000) ** 0.5
    assert (numbers - uniform(torch.arange(20_000), 3, 8)).abs().mean() == pytest.approx(1 / 3, abs=0.01)


def test_targets_without_normalisation() -> None:
    model = shaken(MaskedModel(masked_config(second_view=False, normalised_targets=False)))
    patches = torch.randn(1, 2, 192)
    target, mean, deviation = model.targets(patches)
    torch.testing.assert_close(target, patches.unflatten(2, (3, 64)).transpose(2, 3).flatten(2))
    assert not mean.any()
    assert (deviation == 1).all()


def relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())


@pytest.mark.parametrize("name", VARIANTS)
def test_bfloat16(name: str) -> None:
    """Autocast as on a GPU: the loss stays float32; loss, predictions and every gradient are near those of float32."""
    model = shaken(MaskedModel(VARIANTS[name]))
    loss, values = model(batch())["loss"], model.predict(batch())[0].detach()
    loss.backward()
    exact = loss.detach()
    gradients = [parameter.grad.flatten() for parameter in model.parameters()]
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(batch())["loss"]
        assert relative(model.predict(batch())[0].detach(), values) < 0.02
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach(), exact, rtol=0.005, atol=0)
    loss.backward()
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    assert relative(found, torch.cat(gradients)) < 0.03


@pytest.mark.parametrize("name", VARIANTS)
def test_the_step_is_one_graph(name: str) -> None:
    """What torch.compile needs: no break from pictures and seeds to the gradients, and the same figures."""
    model = shaken(MaskedModel(VARIANTS[name]))
    exact = model(batch())["loss"]
    exact.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    torch._dynamo.reset()
    loss = torch.compile(model, backend="aot_eager", fullgraph=True)(batch())["loss"]
    loss.backward()
    torch.testing.assert_close(loss, exact)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, by torch
def test_compiled_code_gives_the_same() -> None:
    """By the compiler that GPUs use, here for the CPU."""
    model = shaken(MaskedModel(VARIANTS["mimic"]))
    exact = model(batch())["loss"]
    torch._dynamo.reset()
    loss = torch.compile(model, fullgraph=True)(batch())["loss"]
    torch.testing.assert_close(loss, exact, rtol=1e-4, atol=1e-5)


def test_it_learns() -> None:
    """A few steps on one batch with one mask: the loss falls far below that of knowing nothing."""
    torch.manual_seed(0)
    model = MaskedModel(masked_config(mask_ratio=0.5))
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    smooth = torch.nn.functional.interpolate(torch.randn(2, 3, 4, 4), (32, 32), mode="bilinear")
    losses = []
    for _ in range(60):
        loss = model(batch(a=smooth, b=smooth.flip(3)))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
