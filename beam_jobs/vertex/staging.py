"""This project's source distribution in the workspace, for machines whose image does not have it.

Vertex's own images for training have Python 3.10, and this project wants 3.11; so a plain Python image installs it when
the job starts, with the versions of the lock.
https://cloud.google.com/vertex-ai/docs/training/pre-built-containers
"""

import dataclasses
import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

import beam_jobs
from beam_jobs.workspace import storage
from configs.errors import ForetableError, JobError
from configs.job import Job

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LOCK = "requirements.lock"
_PROJECT_FILES = ("setup.py", "pyproject.toml", LOCK)
_PACKAGES = ("configs", "transforms", "models", "beam_jobs")
_BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


@dataclasses.dataclass(frozen=True)
class StagedPackage:
    """Where the package lies in the workspace.

    Attributes:
        sdist: path of the source distribution.
        lock: path of the file that pins what it needs.
    """

    sdist: str
    lock: str


def stage_package(job: Job, root: pathlib.Path = ROOT) -> StagedPackage:
    """Puts the project's source distribution and its lock into the job's workspace, unless they are there.

    The folder is named after what the package is made of. The distribution comes last: where it is, all is.

    Raises:
        JobError: the project is not a checkout.
        ForetableError: it cannot be built, or not be written.
    """
    sources = _sources(root)
    content = hashlib.sha256()
    for path in sources:
        content.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    version = beam_jobs.__version__
    folder = storage.join(job.workspace, ".vertex", f"{version}-{content.hexdigest()[:12]}")  # no job has this name
    package = StagedPackage(storage.join(folder, f"foretable-{version}.tar.gz"), storage.join(folder, LOCK))
    if not storage.exists(package.sdist):
        storage.write_bytes(package.lock, (root / LOCK).read_bytes())
        storage.write_bytes(package.sdist, _build_sdist(root, sources))
    return package


def _sources(root: pathlib.Path) -> list[pathlib.Path]:
    missing = [name for name in (*_PROJECT_FILES, *_PACKAGES) if not (root / name).exists()]
    if missing:
        raise JobError(
            f"model.training.python_package: {root / missing[0]}: not there; expected a checkout of this project,"
            " which is what is packed; or name its image as model.training.container"
        )
    files = [path for package in _PACKAGES for path in (root / package).rglob("*")]
    return sorted(
        [
            *(root / name for name in _PROJECT_FILES),
            *(path for path in files if path.is_file() and "__pycache__" not in path.parts),
        ]
    )


def _build_sdist(root: pathlib.Path, sources: list[pathlib.Path]) -> bytes:
    """Builds in a folder of its own: a build leaves things behind, and two nights may build at once."""
    with tempfile.TemporaryDirectory(prefix="foretable-") as temporary:
        project, built = pathlib.Path(temporary, "project"), pathlib.Path(temporary, "built")
        built.mkdir()
        for path in sources:
            copy = project / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        process = subprocess.run(
            [sys.executable, "-c", _BUILD, str(built)], cwd=project, capture_output=True, text=True, check=False
        )
        archives = list(built.glob("*.tar.gz"))
        if process.returncode != 0 or len(archives) != 1:
            reason = (process.stderr.strip().splitlines() or ["setuptools says nothing"])[-1]
            raise ForetableError(f"model.training.python_package: cannot build a source distribution: {reason}")
        return archives[0].read_bytes()
