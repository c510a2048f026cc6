"""Worker processes. They are started before anything else, so that they import what they need while the plan is made."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(eq=False)
class Worker:
    """A process that waits for a job at the other end of a pipe of its own, so that none can block another by dying."""

    process: BaseProcess
    pipe: Connection
    part: int | None = None
    """The part it said it works on."""


class Crew:
    """Workers, started afresh (spawn) and gone when the block ends, however it ends."""

    def __init__(self, num: int) -> None:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # inherited: workers share the processors already
        self.workers: list[Worker] = []
        for _ in range(num):
            self.add()

    def add(self) -> Worker:
        """One more."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_boot, args=(theirs, os.getpid()), daemon=True)
        resource_tracker.ensure_running()  # else process.start() does it, and unblocks the signals
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # a worker starts whole, and deaf until it can answer
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        self.workers.append(Worker(process, ours))
        return self.workers[-1]

    def speaking(self, among: Iterable[Worker]) -> list[Worker]:
        """Those with something to say, or dead; waits for the first."""
        by_pipe = {worker.pipe: worker for worker in among}
        return [by_pipe[pipe] for pipe in wait(list(by_pipe)) if isinstance(pipe, Connection)]

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()


def _boot(pipe: Connection, parent: int) -> None:
    """The life of a worker: import, wait for a job, do it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # SIGTERM just ends it while it imports
    from .engine import serve

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # from here on it has a part to give back
    try:
        serve(pipe, parent)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the part is given back or finished: a late one need not be told in words
