"""A configuration as config.json records it, made of objects again."""

import importlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from ..errors import ConfigError
from ..schema import Estimator
from ..sources import find_footage
from .curate import CurateConfig
from .views import PairCrop


def config_of(known: Mapping[str, Any], where: Path) -> tuple[CurateConfig, str]:
    """How pictures were cut and measured, and why pairs cannot be measured again, or ''.

    known: `config` of the file `where`, of a composition that of one member. Of the configuration only what makes pictures and
    measures them; the rest is as in the recipe `paper`. Raises ConfigError where the footage was found by a source that is none of
    twoview's: nothing else that is named there is imported.
    """
    source: Any = find_footage if known["source"] == "find_footage" else _piece(known["source"], "sources", where)
    if not callable(source):
        raise ConfigError(f"{where}: its footage was found by {_called(known['source'])}, a source that is none of twoview's")
    estimator = _piece(known["estimator"], "curation", where)
    why = ""
    if not isinstance(estimator, Estimator):
        why = f"the estimator {_called(known['estimator'])} is none of twoview's"
    elif estimator.name != known["estimator"].get("name"):
        why = f"they were measured by {known['estimator'].get('name')}, and this version has {estimator.name}"
    if known["crop"] not in get_args(PairCrop):
        raise ConfigError(f"{where}: the crop {known['crop']!r} is not one of this version of twoview")
    try:
        config = CurateConfig(source=cast(Any, source), crop=known["crop"], size=int(known["size"]), seed=int(known.get("seed", 0)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None
    return (config if why else replace(config, estimator=estimator)), why


def _called(known: Any) -> str:
    return str((known.get("name") or known.get("type")) if isinstance(known, dict) else known)


def _piece(known: Any, room: str, where: Path) -> Any:
    """An object as config.json records it, if its class is in this room of twoview; None for others', which are not imported."""
    module, _, name = str(known.get("type")).partition(":") if isinstance(known, dict) else ("", "", "")
    if not module.startswith(f"twoview.{room}."):
        return None
    try:
        piece = getattr(importlib.import_module(module), name)
        if not (isinstance(piece, type) and is_dataclass(piece)):
            return None
        own = {f.name for f in fields(piece)}
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items() if key in own}
        if set(known) - own - {"type", "name"}:
            raise TypeError
        return piece(**values)
    except (ImportError, AttributeError, TypeError):
        raise ConfigError(f"{where}: {module}:{name} is not as in this version of twoview: use the one that it names") from None
