"""The command line. Nothing else knows of flags, exit codes or the terminal."""

import os
import signal
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from ..errors import TwoviewError
from .curate import curate, demo
from .exchange import export, import_
from .look import audit, measure, recipes
from .models import convert, reconstruct
from .pretrain import pretrain
from .select import select
from .terminal import DONE, FAILED, INTERRUPTED, TERMINATED, USAGE, complain

ABOUT = """twoview turns footage and 3D scenes that nobody annotated into verified two-view training pairs.

  twoview curate PATH [PATH ...] --out DIR    videos, photo folders, 3D scenes to pairs
  twoview measure A.jpg B.jpg                 overlap of two pictures
  twoview audit DIR[@NAME]                    check a dataset, count what it holds, write a page to look at
  twoview select DIR --name NAME              choose among the stored pairs; DIR@NAME is the choice
  twoview export DIR[@NAME] --to FORM OUT     write pairs as other programs read them
  twoview import PATH --from FORM --out DIR   read pairs that others wrote
  twoview pretrain DIR[@NAME] ... --out RUN   train MAE, CroCo or DINO on pairs
  twoview convert CHECKPOINT --to FORM OUT    a model as timm, Hugging Face or MultiMAE read it
  twoview reconstruct CHECKPOINT A B --out P  draw what a model predicts of hidden patches
  twoview recipes                             the named configurations of curate and pretrain
  twoview demo [DIR]                          a first dataset from a 3D scene it makes itself

twoview VERB --help says more. Exit codes: 0 done; 1 unexpected error; 2 wrong usage; 3 done, but some inputs could not be
read; 4 done, nothing kept; 75 try again later; 130 interrupted and 143 terminated (what was finished is kept)."""


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "curate": curate,
    "measure": measure,
    "audit": audit,
    "select": select,
    "export": export,
    "import": import_,
    "pretrain": pretrain,
    "convert": convert,
    "reconstruct": reconstruct,
    "recipes": recipes,
    "demo": demo,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code comes back."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(ABOUT)
        return DONE if args else USAGE
    if args[0] == "--version":
        print(f"twoview {__version__}")
        return DONE
    verb = VERBS.get(args[0])
    if verb is None:
        return complain(f"{args[0]}: there is {', '.join(VERBS)}", USAGE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        return verb(args[1:])
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `twoview audit DIR | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except TwoviewError as error:
        return complain(str(error), error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        return complain(f"{error.filename}: {error.strerror}", FAILED)
