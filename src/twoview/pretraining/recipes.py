"""Named pretraining runs: plain functions that return a complete configuration. Derive your own with dataclasses.replace."""

from collections.abc import Callable
from dataclasses import replace

from .augment import CropsAndJitter, MultiCrop, ResizedCrop, Swapped
from .decoder import DecoderConfig
from .dino import DINOConfig, dino
from .masked import MaskedConfig, croco, mae
from .settings import PretrainConfig
from .vit import vit_config


def croco_mimic() -> PretrainConfig:
    """Section 4 of the paper: CroCo ViT-B/16 with a class token, 200 epochs, batch 4096, pictures as they are stored."""
    return PretrainConfig(model=croco("mimic"), augment=Swapped())


def mae_mimic() -> PretrainConfig:
    """MAE ViT-B/16 on both views of each pair as pictures of their own: random crops and flips; otherwise as croco_mimic."""
    return PretrainConfig(model=mae(), augment=ResizedCrop(), singles=True)


def croco_mimic_1m_matched() -> PretrainConfig:
    """croco_mimic for MIMIC-1M, with as many steps as MIMIC-3M has (154,400), as the paper compares them."""
    return replace(croco_mimic(), steps=3_163_333 // 4096 * 200)


def croco_v1() -> PretrainConfig:
    """CroCo as published: batch 256, crops of 224 in 256 px, colour jitter; 400 epochs of a schedule of 800."""
    return PretrainConfig(
        model=croco("croco_v1"), augment=CropsAndJitter(), epochs=400, schedule_epochs=800, warm_up_epochs=40, batch=256
    )


def croco_v2() -> PretrainConfig:
    """CroCo v2 as published: ViT-L with rotary positions, batch 512; 125 epochs of a schedule of 250."""
    return PretrainConfig(
        model=croco("croco_v2", "L"), augment=CropsAndJitter(), epochs=125, schedule_epochs=250, warm_up_epochs=12, batch=512
    )


def mae_imagenet() -> PretrainConfig:
    """MAE ViT-B/16 on a folder of pictures: 1600 epochs, batch 4096, as the published weights."""
    return PretrainConfig(model=mae(), augment=ResizedCrop(), epochs=1600, warm_up_epochs=40)


def dino_mimic() -> PretrainConfig:
    """DINO ViT-B/16 with the published settings, on both views of each pair as pictures of their own."""
    return PretrainConfig(
        model=dino(),
        augment=MultiCrop(),
        singles=True,
        epochs=400,
        warm_up_epochs=10,
        base_lr=7.5e-4,
        last_lr=5e-7,
        weight_decay=0.04,
        last_weight_decay=0.4,
        betas=(0.9, 0.999),
        clip=0.3,
        batch=1024,
        micro_batch=32,
    )


SMALL = vit_config("Ti", width=128, depth=4, heads=4, patch_px=8, image_px=64)
SMALL_DECODER = DecoderConfig(width=128, depth=2, heads=4)


def tiny_croco() -> PretrainConfig:
    """A CroCo of 64 px that learns something on two processor cores in minutes."""
    return PretrainConfig(
        model=MaskedConfig(encoder=SMALL, decoder=SMALL_DECODER),
        augment=Swapped(size=64),
        epochs=100,
        warm_up_epochs=5,
        base_lr=2e-3,
        batch=64,
        workers=1,
        save_every=200,
        panel_every=20,
    )


def tiny_mae() -> PretrainConfig:
    """An MAE of 64 px, as tiny_croco."""
    objective = MaskedConfig(encoder=SMALL, decoder=SMALL_DECODER, second_view=False, mask_ratio=0.75)
    return replace(tiny_croco(), model=objective, augment=ResizedCrop(size=64), singles=True)


def tiny_dino() -> PretrainConfig:
    """A DINO of 64 px, as tiny_croco."""
    objective = DINOConfig(encoder=replace(SMALL, positions="learned"), hidden=256, bottleneck=64, outputs=1024)
    return replace(
        tiny_croco(),
        model=objective,
        augment=MultiCrop(size=64, local_size=32, num_small=4),
        singles=True,
        base_lr=5e-4,
        clip=1.0,
    )


PRETRAIN: dict[str, Callable[[], PretrainConfig]] = {
    recipe.__name__: recipe
    for recipe in (
        croco_mimic,
        mae_mimic,
        dino_mimic,
        croco_mimic_1m_matched,
        croco_v1,
        croco_v2,
        mae_imagenet,
        tiny_croco,
        tiny_mae,
        tiny_dino,
    )
}
