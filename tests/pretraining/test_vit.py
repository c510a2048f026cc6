"""The encoder: what its tokens depend on, its names, and positions of any picture."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from models_made import encoder_config, pictures, pixels_of, shaken
from torch.nn.attention import SDPBackend, sdpa_kernel

from twoview.errors import ConfigError
from twoview.pretraining.vit import IMAGENET_MEAN, IMAGENET_STD, SIZES, ViT, patchify, sincos_table, vit_config

POSITIONS = ("sincos", "learned", "rotary")


def test_sizes_by_name() -> None:
    counts = {"Ti": 5.5, "S": 21.7, "B": 85.8, "L": 303.3, "H": 630.8}  # millions, as timm says of its ViTs without a classifier
    for size, millions in counts.items():
        with torch.device("meta"):
            model = ViT(vit_config(size, positions="learned", patch_px=14 if size == "H" else 16))
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    with pytest.raises(ConfigError, match="Ti, S, B, L, H"):
        vit_config("XL")
    assert vit_config("Ti", patch_px=8) == replace(SIZES["Ti"], patch_px=8)


def test_key_names_are_those_of_timm() -> None:
    """Of `timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict()`, for one block."""
    block = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    both = ("patch_embed.proj", *(f"blocks.0.{name}" for name in block), "norm")
    expected = {"cls_token", "pos_embed", *(f"{name}.{kind}" for name in both for kind in ("weight", "bias"))}
    assert set(ViT(encoder_config(depth=1)).state_dict()) == expected
    assert set(ViT(encoder_config(depth=1, positions="learned")).state_dict()) == expected
    assert set(ViT(encoder_config(depth=1, positions="rotary")).state_dict()) == expected - {"pos_embed"}
    assert ViT(encoder_config()).pos_embed.shape == (1, 17, 32)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("class_token", [True, False])
def test_shapes_of_any_picture(positions: str, class_token: bool) -> None:
    model = ViT(encoder_config(positions=positions, class_token=class_token))
    for size in ((32, 32), (16, 48), (64, 8)):
        num = size[0] * size[1] // 64
        assert model(pictures(3, size)).shape == (3, num + class_token, 32)
    with pytest.raises(ConfigError, match="30 x 32 px do not divide into patches of 8 px"):
        model(pictures(1, (32, 30)))


def test_normalisation_is_inside() -> None:
    model = shaken(ViT(encoder_config()))
    images = pictures()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(model(images), model((images / 255 - mean) / std))


def test_patches_are_embedded_as_by_a_convolution() -> None:
    model = shaken(ViT(encoder_config()))
    images = torch.randn(2, 3, 32, 48)
    convolved = F.conv2d(images, model.patch_embed.proj.weight, model.patch_embed.proj.bias, stride=8).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.patch_embed(patchify(images, 8)), convolved)


@pytest.mark.parametrize("positions", POSITIONS)
def test_hidden_patches_change_nothing(positions: str) -> None:
    """The tokens of the visible ones are those of a picture in which the rest is anything."""
    model = shaken(ViT(encoder_config(positions=positions)))
    visible = torch.tensor([[0, 3, 7], [15, 2, 8]])
    one, other = pictures(), pictures(seed=5)
    shown = pixels_of(torch.zeros(2, 16, dtype=torch.bool).scatter_(1, visible, True))
    tokens = model(one, visible)
    assert tokens.shape == (2, 4, 32)
    torch.testing.assert_close(tokens, model(torch.where(shown, one, other), visible), rtol=0, atol=0)


@pytest.mark.parametrize("positions", POSITIONS)
def test_all_visible_in_any_order_is_the_whole_picture(positions: str) -> None:
    model = shaken(ViT(encoder_config(positions=positions)))
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(n)) for n in range(2)])
    whole = model(pictures())[:, 1:].gather(1, order[..., None].expand(-1, -1, 32))
    torch.testing.assert_close(model(pictures(), order)[:, 1:], whole)


def test_sincos_table() -> None:
    table = sincos_table((2, 3), 8)
    torch.testing.assert_close(table[0], torch.tensor([0.0, 0, 1, 1, 0, 0, 1, 1]))
    row, column = 1.0, 2.0  # patch 5
    angles = torch.tensor([column, column / 100, row, row / 100])
    torch.testing.assert_close(table[5], torch.cat([angles[:2].sin(), angles[:2].cos(), angles[2:].sin(), angles[2:].cos()]))


def test_positions_interpolate() -> None:
    model = shaken(ViT(encoder_config(positions="learned")))
    assert model.positions((4, 4)) is model.pos_embed
    square = model.pos_embed[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    larger = model.positions((8, 6))
    assert larger.shape == (1, 49, 32)
    torch.testing.assert_close(larger[:, :1], model.pos_embed[:, :1])
    expected = F.interpolate(square, (8, 6), mode="bicubic", align_corners=False)
    torch.testing.assert_close(larger[:, 1:], expected.flatten(2).transpose(1, 2))


def test_rotary_positions_speak_of_distance_alone() -> None:
    """A picture moved by a patch, in a larger field of nothing, has the same tokens."""
    model = shaken(ViT(encoder_config(positions="rotary", class_token=False)))
    field = torch.zeros(1, 3, 64, 64)
    field[..., :32, :32] = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    moved = field.roll((8, 16), (2, 3))
    here = torch.tensor([[row * 8 + column for row in range(4) for column in range(4)]])
    torch.testing.assert_close(model(field, here), model(moved, here + 8 + 2), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(field, here), model(field[..., :32, :32].flip(3)), atol=1e-3)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ConfigError, match="heads must divide the width"):
        encoder_config(heads=5)
    with pytest.raises(ConfigError, match="patches the picture"):
        encoder_config(image_px=30)
    with pytest.raises(ConfigError, match="4 divides"):
        encoder_config(width=30, heads=3)
    with pytest.raises(ConfigError, match="heads of a width that 4 divides"):
        encoder_config(width=24, heads=4, positions="rotary")


WRONG = {"heads": 0}, {"patch_px": 0}, {"drop_path": 1.0}, {"drop_path": -0.1}, {"norm_eps": 0.0}, {"depth": 0}


@pytest.mark.parametrize("fields", WRONG)
def test_numbers_that_cannot_be(fields: dict) -> None:
    with pytest.raises(ConfigError):
        encoder_config(**fields)


def test_drop_path_follows_from_the_seed() -> None:
    model = shaken(ViT(encoder_config(depth=4, drop_path=0.5))).train()
    images, seeds = pictures(1).repeat(64, 1, 1, 1), torch.arange(64)
    tokens = model(images, None, seeds)
    torch.testing.assert_close(tokens, model(images, None, seeds), rtol=0, atol=0)
    torch.testing.assert_close(tokens[5:9], model(images[5:9], None, seeds[5:9]), rtol=1e-5, atol=1e-5)
    assert len(tokens[:, 0].round(decimals=3).unique(dim=0)) > 10
    whole = model.eval()(images, None, seeds)
    torch.testing.assert_close(whole[:1].expand_as(whole), whole, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(whole[0], tokens[1], atol=1e-3)
    torch.testing.assert_close(model.train()(images[:1]), whole[:1])  # no seeds, nothing dropped


def test_every_attention_kernel_gives_the_same() -> None:
    """Flash attention, here the CPU's, beside plain mathematics; forward and backward."""
    model = shaken(ViT(encoder_config(positions="rotary"))).train()
    answers = []
    for backend in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
        model.zero_grad()
        with sdpa_kernel(backend):
            tokens = model(pictures())
            tokens.square().mean().backward()
        answers.append([tokens.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    for plain, flash in zip(*answers, strict=True):
        torch.testing.assert_close(flash, plain, rtol=1e-4, atol=1e-5)
