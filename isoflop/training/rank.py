"""A process among those that train one run together (`isoflop.training.group` starts it and hears it).

    python -m isoflop.training.rank RANK SIZE MEETING

The first line of standard input is the job. They meet through the file MEETING, and exchange gradients by gloo on a
CPU, by NCCL on GPUs. Signals are for who started them; when that dies they do.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist
from torch.distributed import FileStore  # type: ignore[attr-defined]

from isoflop.errors import Interrupted
from isoflop.machine import die_with_the_parent
from isoflop.tokens.shards import Corpus
from isoflop.training.data import CorpusSource
from isoflop.training.group import Job
from isoflop.training.metrics import Progress
from isoflop.training.parallel import ALONE, Member
from isoflop.training.probe import Uniform, measure
from isoflop.training.run import finish

#: Longest that one waits for another: the first one alone writes checkpoints, which may take its time.
_PATIENCE = timedelta(minutes=30)


def main(rank: str, size: str, meeting: str) -> None:
    """Train."""
    die_with_the_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    line = _Line(os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8"))
    os.dup2(2, 1)
    threading.Thread(target=line.listen, daemon=True).start()
    try:
        order = line.heard.get()
        probes, corpus = order.pop("probe"), order.pop("corpus")
        job = Job.from_json(order)
        source = CorpusSource(Corpus.open(Path(corpus))) if corpus else Uniform(job.run)
        member = _meet(int(rank), int(size), job.accelerator, meeting) if int(size) > 1 else ALONE
        if probes:
            line.say(result=measure(job, source, member))
        else:
            line.say(result=finish(job, source, line.progress if member.leads else None, member))
        code = 0
    except BaseException as error:
        if not isinstance(error, Interrupted):
            with suppress(OSError):  # the log may be where there is no room
                traceback.print_exc()
        line.say(
            error=type(error).__name__,
            message=str(error),
            errno=error.errno if isinstance(error, OSError) else None,
            time=time.time(),
        )
        code = 1
    # Not by way of what waits for the others.
    sys.stderr.flush()
    os._exit(code)


def _meet(rank: int, size: int, accelerator: str, meeting: str) -> Member:
    if accelerator == "cpu":
        backend = "gloo"
    else:
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    store = FileStore(meeting, size)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    return Member(rank, size)


class _Line:
    """The connection to who started this process."""

    def __init__(self, told: TextIO) -> None:
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self._told = told

    def say(self, **message: Any) -> None:
        self._told.write(json.dumps(message) + "\n")

    def listen(self) -> None:
        for text in sys.stdin:
            self.heard.put(json.loads(text))
        os._exit(0)

    def progress(self, progress: Progress) -> None:
        """Tell the progress and wait for leave to go on."""
        self.say(progress=vars(progress))
        answer = self.heard.get()
        if "stop" in answer:
            raise Interrupted(answer["stop"])


if __name__ == "__main__":
    main(*sys.argv[1:])
