"""What a person sees: lines and progress on standard error, while the noise of TensorFlow and Beam goes to the log.

The noise comes from C++ as well as from Python, so file descriptor 2 itself is turned to the log file, and the console
keeps a copy of the one that it found.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

PLAIN_INTERVAL_SECONDS = 5.0
LEAST_PAUSE_SECONDS = 0.2


class Console:
    """Lines and progress for a person; everything else goes to the log."""

    def __init__(self) -> None:
        self._screen = os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)
        self._rich = rich.console.Console(file=self._screen, highlight=False, soft_wrap=True)
        self.log_path: str | None = None
        self._live: rich.progress.Progress | None = None

    def line(self, text: str, style: str | None = None) -> None:
        """Prints one line."""
        self._rich.print(text, style=style, markup=False)

    def confirm(self, question: str) -> bool:
        """Asks a person at the terminal, while a bar rests; anything but yes, and nobody to ask, is no."""
        if not sys.stdin.isatty():
            return False
        live = self._live
        if live is not None:
            live.stop()
        try:
            self._rich.print(f"{question} [y/N] ", end="", markup=False)
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except (KeyboardInterrupt, EOFError):
            return False
        finally:
            if live is not None:
                live.start()

    def log_to(self, path: str) -> None:
        """Sends file descriptor 2, and with it all logging, to the end of the file at `path`."""
        sys.stderr.flush()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 2)
        os.close(log)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
        self.log_path = path

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Drops what anybody but the console writes to file descriptor 2 while the block runs, such as TensorFlow."""
        sys.stderr.flush()
        before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)

    @contextlib.contextmanager
    def activity(self, stage: str, what: str) -> Iterator[None]:
        """Shows what is being done while the block runs, where there is nothing to count."""
        if not self._rich.is_terminal:
            yield
            return
        columns = (rich.progress.TextColumn(f"{stage:<12} {what}"), rich.progress.TimeElapsedColumn())
        with rich.progress.Progress(*columns, console=self._rich, transient=True) as bar:
            bar.add_task(stage, total=None)
            self._live = bar
            try:
                yield
            finally:
                self._live = None

    @contextlib.contextmanager
    def progress(self, stage: str, unit: str, total: int, done: Callable[[], int]) -> Iterator[None]:
        """Shows progress while the block runs, by asking `done` for the number of units finished so far."""
        stop = threading.Event()
        show = self._bar if self._rich.is_terminal else self._plain
        thread = threading.Thread(target=show, args=(stage, unit, total, done, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _bar(self, stage: str, unit: str, total: int, done: Callable[[], int], stop: threading.Event) -> None:
        columns = (
            rich.progress.TextColumn("{task.description:<12}"),
            rich.progress.BarColumn(bar_width=30),
            rich.progress.TextColumn("{task.fields[counted]}"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
        )
        with rich.progress.Progress(*columns, console=self._rich, transient=True) as bar:
            task = bar.add_task(stage, total=total, counted="")
            self._live = bar
            started, pause = time.monotonic(), LEAST_PAUSE_SECONDS
            while not stop.wait(pause):
                asked = time.monotonic()
                count = done()
                # What takes long to count, such as objects in a bucket, is counted less often.
                pause = max(LEAST_PAUSE_SECONDS, 10 * (time.monotonic() - asked))
                bar.update(task, completed=count, counted=_counted(count, total, unit, time.monotonic() - started))
            self._live = None

    def _plain(self, stage: str, unit: str, total: int, done: Callable[[], int], stop: threading.Event) -> None:
        started, shown = time.monotonic(), 0
        while not stop.wait(PLAIN_INTERVAL_SECONDS):
            count, elapsed = done(), time.monotonic() - started
            if count == shown:
                continue
            shown = count
            left = elapsed / count * (total - count)
            self.line(f"{stage:<12} {_counted(count, total, unit, elapsed)}, {left:.0f} s left")


def _counted(count: int, total: int, unit: str, elapsed_seconds: float) -> str:
    rate = count / elapsed_seconds if elapsed_seconds > 0 else 0.0
    per_second = f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.2g}/s" if count else ""
    return f"{count:,} of {total:,} {unit}{per_second}"
