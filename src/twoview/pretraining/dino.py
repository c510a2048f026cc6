"""DINO: a student learns to say of any view what its own running mean, the teacher, says of another view of the same thing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from ..errors import ConfigError
from .data import Batch
from .schedule import by_cosine
from .vit import ViT, ViTConfig, vit_config


@dataclass(frozen=True, kw_only=True)
class DINOConfig:
    """As the published ViT-B/16. Shares of training are of all its steps."""

    encoder: ViTConfig = field(default_factory=lambda: vit_config("B", positions="learned", drop_path=0.1))
    hidden: int = 2048
    """Width of the hidden layers of a head."""
    bottleneck: int = 256
    outputs: int = 65_536
    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    first_teacher_temperature: float = 0.04
    warm_up: float = 0.125
    """Share of training over which the teacher's temperature rises to its last value."""
    momentum: float = 0.996
    """Of the teacher: what it keeps of itself in a step, at first; it rises to 1 by half a cosine."""
    centre_momentum: float = 0.9
    frozen: float = 0.0075
    """Share of training in which a head's last layer is left as it is."""

    def __post_init__(self) -> None:
        if min(self.student_temperature, self.teacher_temperature, self.first_teacher_temperature) <= 0:
            raise ConfigError("the temperatures of DINO are larger than 0")
        if min(self.hidden, self.bottleneck, self.outputs) < 1:
            raise ConfigError("the layers of a DINO head are 1 wide or more")
        shares = (self.warm_up, self.momentum, self.centre_momentum, self.frozen)
        if min(shares) < 0 or max(shares) > 1:
            raise ConfigError("warm_up, momentum, centre_momentum and frozen of DINO lie in [0, 1]")


def dino(size: str = "B", **encoder: Any) -> DINOConfig:
    """DINO as published, of another size. encoder: fields of ViTConfig to change."""
    return DINOConfig(encoder=vit_config(size, **{"positions": "learned", "drop_path": 0.1} | encoder))


class DINOHead(nn.Module):
    """Three layers to a bottleneck, its direction alone, and the likeness of that to each of many prototypes."""

    def __init__(self, config: DINOConfig) -> None:
        super().__init__()
        widths = (config.encoder.width, config.hidden, config.hidden, config.bottleneck)
        layers = [nn.Linear(*pair) for pair in pairwise(widths)]
        for layer in layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        self.last_layer = _Prototypes(config.bottleneck, config.outputs)

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        return self.last_layer(F.normalize(self.mlp(x), dim=1))


class _Prototypes(nn.Module):
    """A linear layer with rows of a fixed length, under the key names of torch's weight_norm."""

    weight_g: Tensor

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(outputs, width), a=math.sqrt(5)))
        self.register_buffer("weight_g", torch.ones(outputs, 1))

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        return F.linear(x, self.weight_g * self.weight_v / self.weight_v.norm(dim=1, keepdim=True))


class _Network(nn.Module):
    """Student or teacher."""

    def __init__(self, config: DINOConfig) -> None:
        super().__init__()
        self.backbone = ViT(config.encoder)
        for part in self.backbone.modules():  # as published, where MAE's ViT begins otherwise
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
        self.head = DINOHead(config)

    def forward(
        self, views: Sequence[Shaped[Tensor, "b 3 _ _"]], seeds: Int64[Tensor, " b"] | None = None
    ) -> list[Float[Tensor, "b k"]]:
        """What it says of each view. Views of one size go through it together."""
        features = []
        for _, group in groupby(enumerate(views), key=lambda item: item[1].shape):
            numbers, same = zip(*group, strict=True)
            own = None if seeds is None else torch.cat([seeds ^ (number << 48) for number in numbers])
            tokens = self.backbone(torch.cat(same), None, own)
            features += [tokens[:, 0] if self.backbone.config.class_token else tokens.mean(dim=1)]
        return list(self.head(torch.cat(features)).split(len(views[0])))


class DINO(nn.Module):
    """The objective of "Emerging Properties in Self-Supervised Vision Transformers": tables 1 and 2 of the paper.

    A trainer calls before_step when it has the gradients, and after_step(share of training done) when the student has moved.
    """

    centre: Tensor
    _taught: Tensor
    _num_taught: Tensor

    def __init__(self, config: DINOConfig) -> None:
        super().__init__()
        self.config = config
        self.progress = 0.0
        """Share of training that is done. A trainer that goes on with a checkpoint sets it."""
        self.student, self.teacher = _Network(config), _Network(config)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.register_buffer("centre", torch.zeros(1, config.outputs))
        self.register_buffer("_taught", torch.zeros(1, config.outputs), persistent=False)
        self.register_buffer("_num_taught", torch.zeros(()), persistent=False)

    @property
    def encoder(self) -> ViT:
        """The teacher's, which is the better one."""
        return self.teacher.backbone

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: cross-entropy of the student's view of each crop and the teacher's of a and b, of different crops.

        a and b are the global crops: of one picture, or two views of one place. Where the centre moves is known after the step.
        """
        if batch.b is None:
            raise ConfigError("DINO needs two global crops, a and b")
        with torch.no_grad():
            taught = self.teacher((batch.a, batch.b))
        said = self.student((batch.a, batch.b, *batch.crops), batch.seeds)
        loss = dino_loss(said, taught, self.centre, self.config.student_temperature, self.teacher_temperature)
        if self.training:
            outputs = torch.cat(taught)
            self._taught += outputs.detach().float().sum(dim=0, keepdim=True)
            self._num_taught += len(outputs)
        return {"loss": loss}

    @property
    def teacher_temperature(self) -> float:
        first, last = self.config.first_teacher_temperature, self.config.teacher_temperature
        return last if self.progress >= self.config.warm_up else first + (last - first) * self.progress / self.config.warm_up

    def before_step(self) -> None:
        """Takes the gradients of the last layer away while it is frozen."""
        if self.progress < self.config.frozen:
            for name, parameter in self.student.named_parameters():
                if ".last_layer." in name:
                    parameter.grad = None

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Moves the teacher towards the student, and the centre towards what the teacher said in the step.

        progress: share of training that is done.
        """
        keep = by_cosine(self.progress, self.config.momentum, 1.0)
        for its, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            its.lerp_(new, 1 - keep)
        self.progress = progress
        self._move_centre()

    def _move_centre(self) -> None:
        """By all pieces of the step's batch, of all processes."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self._taught)
            dist.all_reduce(self._num_taught)
        self.centre.lerp_(self._taught / self._num_taught.clamp(min=1), 1 - self.config.centre_momentum)
        self._taught.zero_()
        self._num_taught.zero_()


def dino_loss(
    said: Sequence[Float[Tensor, "b k"]],
    taught: Sequence[Float[Tensor, "b k"]],
    centre: Float[Tensor, "1 k"],
    student_temperature: float,
    teacher_temperature: float,
) -> Float[Tensor, ""]:
    """Mean cross-entropy over samples and over pairs of a teacher's and a student's output of different crops.

    said: the student's, those of the teacher's crops first and in the same order.
    """
    logs = [F.log_softmax(output.float() / student_temperature, dim=1) for output in said]
    terms = [
        -(F.softmax((output.float() - centre) / teacher_temperature, dim=1) * log).sum(dim=1).mean()
        for i, output in enumerate(taught)
        for j, log in enumerate(logs)
        if i != j
    ]
    return torch.stack(terms).mean()
