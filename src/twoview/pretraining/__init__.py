"""Models that learn from pairs, and their checkpoints."""

from ..errors import ConfigError

try:
    import safetensors as _safetensors  # noqa: F401
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ConfigError(f"models need {error.name}, one package more: pip install 'twoview[train]'") from None
