"""The exceptions of twoview. Each message says what, where and what to do; `exit_code` is what the command returns.

TwoviewError                 1   anything that twoview itself reports
├── ConfigError              2   a flag, a recipe or a folder that cannot be used as asked
│   └── LeftOutError         2   a dataset of which its own rule leaves out every scene that is there
├── UnreadableError          3   one input or one frame that cannot be read; the run goes on
├── BrokenDatasetError       1   files in OUT that are not what their manifest says
└── TryLaterError           75   a full disk, a part held elsewhere: the same command finishes it later
"""


class TwoviewError(Exception):
    exit_code = 1


class ConfigError(TwoviewError):
    exit_code = 2


class LeftOutError(ConfigError):
    """So that a composition can do without such a dataset."""


class UnreadableError(TwoviewError):
    exit_code = 3


class BrokenDatasetError(TwoviewError):
    exit_code = 1


class TryLaterError(TwoviewError):
    exit_code = 75
