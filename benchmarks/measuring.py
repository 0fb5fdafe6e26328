"""What a cell takes: seconds, processor seconds and memory of a process and all that it started, read from `/proc`."""

import dataclasses
import os
import pathlib
import re
import threading
import time
from collections.abc import Iterable

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.2
# Fields of /proc/PID/stat after the command's name, which may itself hold spaces and parentheses.
_PARENT, _CPU_FIELDS = 1, slice(11, 15)


@dataclasses.dataclass(frozen=True)
class Instant:
    """A reading of the clocks.

    Attributes:
        seconds: of the system's monotonic clock, which all processes share.
        cpu_seconds: of the process that read it, all its threads.
        process_id: the process that read it.
    """

    seconds: float
    cpu_seconds: float
    process_id: int


def read_clocks() -> Instant:
    """This process's clocks, now."""
    return Instant(time.monotonic(), time.process_time(), os.getpid())


@dataclasses.dataclass(frozen=True)
class TreeSample:
    """Processor seconds and memory of a tree of processes; those that ended count with what their parent collected."""

    seconds: float
    cpu_seconds: float
    memory_bytes: int


class TreeSampler(threading.Thread):
    """Samples a process and its descendants until it is stopped.

    Attributes:
        samples: the samples so far.
    """

    def __init__(self, process_id: int):
        super().__init__(daemon=True)
        self.samples: list[TreeSample] = []
        self._process_id = process_id
        self._stopped = threading.Event()

    def run(self) -> None:
        """Samples."""
        while not self._stopped.wait(_SAMPLE_SECONDS):
            processes = descendants(self._process_id)
            cpu_seconds = sum(map(_cpu_seconds, processes))
            # Of one process its own peak says it exactly, and needs no reading of all its pages.
            memory_bytes = sum(map(_proportional_bytes, processes)) if len(processes) > 1 else 0
            self.samples.append(TreeSample(time.monotonic(), cpu_seconds, memory_bytes))

    def stop(self) -> None:
        """Ends the sampling."""
        self._stopped.set()
        self.join()

    def peak_bytes(self) -> int:
        """The most memory that several processes had at once; 0 if there never were several."""
        return max((sample.memory_bytes for sample in self.samples), default=0)

    def cpu_seconds_between(self, start: float, stop: float) -> float:
        """Processor seconds of the tree between two instants, interpolated between samples."""
        return cpu_seconds_at(self.samples, stop) - cpu_seconds_at(self.samples, start)


def cpu_seconds_at(samples: Iterable[TreeSample], seconds: float) -> float:
    """Processor seconds at an instant, interpolated between the samples around it; 0 without samples."""
    before = None
    for sample in samples:
        if sample.seconds >= seconds:
            if before is None:
                return sample.cpu_seconds
            share = (seconds - before.seconds) / (sample.seconds - before.seconds)
            return before.cpu_seconds + share * (sample.cpu_seconds - before.cpu_seconds)
        before = sample
    return before.cpu_seconds if before is not None else 0.0


def descendants(process_id: int) -> list[int]:
    """The process and everything that it started, and they started, that still runs."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[_PARENT]), []).append(int(entry))
    found = [process_id]
    for parent in found:
        found.extend(children.get(parent, ()))
    return found


def peak_bytes_of(process_id: int) -> int:
    """The most memory that one running process has had resident.

    Not `ru_maxrss`: that one begins with what the process which started it had.
    """
    status = pathlib.Path(f"/proc/{process_id}/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024


def _stat(process_id: int) -> list[str]:
    try:
        return pathlib.Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it ended meanwhile
        return []


def _cpu_seconds(process_id: int) -> float:
    return sum(map(int, _stat(process_id)[_CPU_FIELDS])) / _TICKS_PER_SECOND


def _proportional_bytes(process_id: int) -> int:
    """Resident memory, with pages that are shared, such as Ray's object store, divided among those who share them."""
    try:
        text = pathlib.Path(f"/proc/{process_id}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(size) * 1024 for size in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE))
