"""Several sources as one dataset, each by a recipe of its own, and how many pairs of each are wanted: MIMIC-1M, MIMIC-3M."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import plan
from ..dataset import check_name
from ..errors import ConfigError, LeftOutError
from ..schema import Scene, SceneInfo
from .curate import CurateConfig


@dataclass(frozen=True, kw_only=True)
class Composition:
    """What a dataset of several sources is: a configuration for each, which the engine looks up by a scene's source.

    Everything it gives is what that source's own recipe gives, pair ids and bytes: only the plan and its parts are common.
    """

    name: str
    """Of the selection that holds the quotas."""
    members: Mapping[str, CurateConfig]
    """By the manifest's `source`. All of one size: they lie in the same shards."""
    quota: Mapping[str, int]
    """Pairs of each source that the whole is made of."""
    claimed: str
    """Where the quotas come from."""
    allow_missing: bool = False
    """Go on without the sources whose folder is not there: they can come later, with --extend."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.members or set(self.quota) != set(self.members):
            raise ConfigError(f"{self.name}: members and quota must name the same sources, one at least")
        if len({config.size for config in self.members.values()}) != 1:
            raise ConfigError(f"{self.name}: its members store pictures of several sizes")

    @property
    def size(self) -> int:
        return next(iter(self.members.values())).size

    def of(self, source: str) -> CurateConfig:
        """How the pairs of a source are made."""
        return self.members[source]

    def as_dict(self) -> dict[str, Any]:
        """Plain values: those that all members have in common, and each member's. Quotas are no part of them: they choose later."""
        members = {source: config.as_dict() for source, config in self.members.items()}
        first = next(iter(members.values()))
        common = {key: value for key, value in first.items() if all(member[key] == value for member in members.values())}
        return {**common, "composition": self.name, "members": members}

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def source(self, paths: Iterable[Path], list_file: Path | None = None) -> "Sources":
        """The scenes of every source, in folders that hold a folder for each; the folder itself where only one is asked for.

        Raises ConfigError, naming them, for sources whose folder is not there (unless `allow_missing`), and where a folder is not
        laid out as its dataset is.
        """
        if list_file is not None:
            raise ConfigError(f"--list {list_file}: {self.name} finds its scenes itself: give the folder that its sources lie in")
        paths = list(paths)
        for path in paths:
            if not path.is_dir():
                why = "not a folder" if path.exists() else "no such folder"
                raise ConfigError(f"{path}: {why}: give the one that the sources lie in")
        roots = {source: found for source in self.members if (found := _roots(source, paths))}
        if not roots and len(self.members) == 1:
            roots = {next(iter(self.members)): paths}
        missing = [source for source in self.members if source not in roots]
        if missing and (not self.allow_missing or not roots):
            where, names = ", ".join(map(str, paths)), ", ".join(f"{source}/" for source in missing)
            tip = " Put them there (links will do), or add --allow-missing to go on with what is there" if roots else ""
            raise ConfigError(f"{where}: {self.name} wants a folder for each of its sources; there is no {names}.{tip}")
        found, left_out = {}, []
        for source, folders in roots.items():
            try:
                found[source] = self.members[source].source(folders, None)
            except LeftOutError as error:
                if not self.allow_missing:
                    raise
                left_out.append(str(error))
        if not found:
            raise ConfigError("; ".join(left_out))
        return Sources(found, tuple(missing), tuple(left_out))


def _roots(source: str, paths: Sequence[Path]) -> list[Path]:
    """The folders of a source, among those given and what is in them, by the names that they usually have; each once."""
    wanted = {_plain(source), *ALIASES.get(source, ())}
    folders = [p for path in paths for p in (path, *sorted(path.iterdir())) if p.is_dir() and _plain(p.absolute().name) in wanted]
    return list({os.path.realpath(p): p for p in reversed(folders)}.values())[::-1]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


ALIASES = {
    "street_view": ("3dstreetview", "3dstreet"),
    "mannequin": ("mannequinchallenge",),
    "matterport": ("mp3d", "matterport3d"),
    "arkitscenes": ("arkit",),
    "co3d": ("co3dv2",),
    "hm3d": ("habitatmatterport3d",),
    "gibson": ("gibsonhabitat",),
}
"""What folders of the sources are called besides, in lower case, letters and digits alone."""


@dataclass(frozen=True)
class Sources:
    """Several Sources as one, by the member that each belongs to."""

    by_source: Mapping[str, Any]
    missing: tuple[str, ...] = ()
    """Sources that are wanted, and not there."""
    left_out: tuple[str, ...] = ()
    """What is said of those that are there, and left out whole."""

    def __post_init__(self) -> None:
        for member, source in self.by_source.items():
            for own in (plan.about(source, name).source for name in source.names()):
                if own != member:
                    raise ConfigError(f"member {member!r}: its scenes are of the source {own!r}: let it be called so")
        count = Counter(name for source in self.by_source.values() for name in source.names())
        twice = [name for name, num in count.items() if num > 1]
        if twice:
            raise ConfigError(f"{twice[0]}: two sources have a scene of that name: rename its folder in one of them")

    @cached_property
    def _home(self) -> dict[str, Any]:
        return {name: source for source in self.by_source.values() for name in source.names()}

    def names(self) -> Sequence[str]:
        return list(self._home)

    def open(self, name: str, /) -> Scene:
        return self._home[name].open(name)

    def about(self, name: str, /) -> SceneInfo:
        return plan.about(self._home[name], name)

    def fingerprint(self, name: str, /) -> tuple[str, int]:
        return plan.fingerprint(self._home[name], name)

    def take(self, limit: int | None) -> "Sources":
        """The first `limit` scenes of each source."""
        self._check("take", "--limit")
        return replace(self, by_source={name: source.take(limit) for name, source in self.by_source.items()})

    def only(self, names: Iterable[str]) -> "Sources":
        """The scenes of these names."""
        self._check("only", "--licences")
        names = set(names)
        some = {name: source.only(names) for name, source in self.by_source.items()}
        return replace(self, by_source={name: source for name, source in some.items() if source.names()})

    def _check(self, method: str, flag: str) -> None:
        for member, source in self.by_source.items():
            if not hasattr(source, method):
                raise ConfigError(f"{flag}: {type(source).__name__}, the source of {member!r}, has no method {method}")

    @property
    def num_ignored(self) -> int:
        return sum(getattr(source, "num_ignored", 0) for source in self.by_source.values())

    @property
    def num_repeated(self) -> int:
        return sum(getattr(source, "num_repeated", 0) for source in self.by_source.values())

    @property
    def remark(self) -> str:
        """What the sources say of what they leave out, and which are not there."""
        remarks = [f"{name}: {source.remark}" for name, source in self.by_source.items() if getattr(source, "remark", "")]
        return "; ".join(
            [*remarks, *self.left_out, *([f"no folder for {', '.join(self.missing)}: left out"] if self.missing else [])]
        )
