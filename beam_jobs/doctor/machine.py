"""This machine: Python and packages against the lock, and whether the workspace has room."""

import importlib.metadata
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator

from beam_jobs.commands.tables import bytes_text
from beam_jobs.doctor.findings import Finding
from beam_jobs.workspace import storage
from beam_jobs.workspace.run_directory import job_folder
from configs.cloud import BigQueryWarehouse
from configs.job import Job

LOCK = pathlib.Path(__file__).resolve().parent.parent.parent / "requirements.lock"
PYTHONS = ((3, 11), (3, 13))
LEAST_MEMORY_BYTES, LEAST_DISK_BYTES = 4 * 10**9, 2 * 10**9
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", re.MULTILINE)
_SHOWN = 5


def python_check() -> Iterator[Finding]:
    """Whether TensorFlow and Beam have packages for this Python."""
    version = sys.version_info[:2]
    text = ".".join(map(str, sys.version_info[:3]))
    if PYTHONS[0] <= version <= PYTHONS[1]:
        yield Finding("python", "ok", text)
    else:
        yield Finding("python", "fail", f"{text}: expected 3.11 to 3.13", "make install PYTHON=python3.12")


def package_checks(lock: pathlib.Path = LOCK) -> Iterator[Finding]:
    """What is installed against what is required, and against the lock where there is one beside the package."""
    mend = "pip install --requirement requirements.lock"
    installed = {_canonical(found.name): found.version for found in importlib.metadata.distributions()}
    missing = [name for name in _required() if name not in installed]
    if missing:
        yield Finding("packages", "fail", f"not installed: {', '.join(missing)}", mend)
        return
    if not lock.is_file():
        yield Finding("packages", "warn", "no requirements.lock beside the package to compare with")
        return
    locked: dict[str, list[str]] = {}  # one lock is for several Pythons, which may differ
    for name, version in _PINNED.findall(lock.read_text(encoding="utf-8")):
        locked.setdefault(_canonical(name), []).append(version)
    other = [
        f"{name} {installed[name]} (lock: {' or '.join(versions)})"
        for name, versions in sorted(locked.items())
        if name in installed and installed[name] not in versions
    ]
    if other:
        more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
        yield Finding("packages", "warn", f"not as in requirements.lock: {', '.join(other[:_SHOWN])}{more}", mend)
    else:
        yield Finding("packages", "ok", f"{len(locked.keys() & installed.keys())} packages as in requirements.lock")


def memory_check() -> Iterator[Finding]:
    """Whether TensorFlow and a few blocks fit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total < LEAST_MEMORY_BYTES:
        yield Finding("memory", "warn", f"{bytes_text(total)}: a night wants about {bytes_text(LEAST_MEMORY_BYTES)}")
    else:
        yield Finding("memory", "ok", bytes_text(total))


def folder_checks(job: Job) -> Iterator[Finding]:
    """Whether the local workspace and the DuckDB catalog can be written, and have room."""
    if storage.is_local(job.workspace):
        yield _folder("workspace", pathlib.Path(job_folder(job)))
    if not isinstance(job.warehouse, BigQueryWarehouse):
        path = pathlib.Path(job.warehouse.path or job_folder(job))
        yield _folder("warehouse", path.resolve().parent if job.warehouse.path else path)


def _folder(check: str, folder: pathlib.Path) -> Finding:
    """Tries to write in the folder, or where it would be made."""
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Finding(check, "fail", f"{folder}: cannot be written: {reason}", "set workspace: to a folder of yours")
    free = shutil.disk_usage(nearest).free
    if free < LEAST_DISK_BYTES:
        found = f"{folder}: only {bytes_text(free)} are free"
        return Finding(check, "warn", found, "make room, or see `foretable run JOB --dry-run` for the table's size")
    return Finding(check, "ok", f"{folder}: writable, {bytes_text(free)} free")


def _required() -> list[str]:
    """Names of what the package itself needs, without its extras."""
    try:
        required = importlib.metadata.requires("foretable") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [_canonical(re.split(r"[^A-Za-z0-9._-]", text)[0]) for text in required if "extra ==" not in text]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
