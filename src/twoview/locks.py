"""Locks on files in OUT. The system frees them when their holder dies, however it dies; the file says who that is."""

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path

from .errors import ConfigError
from .shards import explained

_HELD: set[int] = set()
"""Descriptors of this process's locks."""


def _let_go() -> None:
    """A forked process outlives a killed holder by seconds, and would hold its locks for as long."""
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


class Lock:
    """Held from `acquire` until the block or `release` ends. The file is gone afterwards, unless the holder was killed."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        _HELD.add(descriptor)

    @classmethod
    def acquire(cls, path: Path) -> "Lock | None":
        """The lock, or None where somebody living holds it."""
        while True:
            with explained(path):
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except OSError as error:
                os.close(descriptor)
                raise ConfigError(f"{path}: this file system has no locks ({error.strerror}): give an --out elsewhere") from None
            try:
                current = os.stat(path).st_ino == os.fstat(descriptor).st_ino
            except FileNotFoundError:
                current = False
            if current:
                os.ftruncate(descriptor, 0)
                with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
                    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return cls(path, descriptor)
            os.close(descriptor)  # its former holder has just removed the file: take the new one

    @classmethod
    def wait(cls, path: Path) -> "Lock":
        """The lock, as soon as it is free."""
        while (lock := cls.acquire(path)) is None:
            time.sleep(0.1)
        return lock

    def release(self) -> None:
        self.path.unlink(missing_ok=True)
        _HELD.discard(self._descriptor)
        os.close(self._descriptor)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def holder(path: Path) -> str:
    """Who holds a lock, as 'process 123 on host'."""
    try:
        return path.read_text().strip() or "somebody"
    except OSError:
        return "somebody"
