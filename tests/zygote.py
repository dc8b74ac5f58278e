"""Runs that can be killed: a process that imports once and forks for each run.

The script reads a JSON line {"kill_at", "kill_after_s", "order"} from stdin for each run, answers
with the run's process id and, when it has ended, with its exit status (negative: the signal).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

INTERRUPTED = 130


class Zygote:
    """Starts runs of a script that calls `serve`, one at a time."""

    def __init__(self, script: str, **env: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(script))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **env},
        )

    def start(self, order: Any, kill_at: str = "", kill_after_s: float | None = None) -> int:
        """Start a run; returns its process id."""
        assert self._process.stdin is not None
        line = {"kill_at": kill_at, "kill_after_s": kill_after_s, "order": order}
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        return self.wait()

    def wait(self) -> int:
        """The exit status of the run that was started."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def serve(run: Callable[[Any], None]) -> None:
    """Answer a zygote; each run in a fork of this process."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.environ["REDVILLM_KILL_AT"] = asked["kill_at"]
            if asked["kill_after_s"] is not None:
                kill = threading.Timer(
                    asked["kill_after_s"], os.kill, [os.getpid(), signal.SIGKILL]
                )
                kill.daemon = True
                kill.start()
            sys.stdout = sys.stderr  # the answers are ours
            try:
                run(asked["order"])
            except KeyboardInterrupt:
                os._exit(INTERRUPTED)
            except BaseException:
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
