"""The folder where the stages of one night meet, and its commit markers.

`<workspace>/<job>/<run_date>/<run_id>/`. A stage's marker is written last, with the digests of what the stage read, so
a rerun skips what is done and redoes what changed.
"""

import dataclasses
import datetime
import hashlib
import importlib.util
import pathlib
from typing import Any

import beam_jobs
from beam_jobs.workspace import storage
from configs.errors import RefusedError
from configs.job import Job, TrainedJob, is_foreign

FORMAT = 1
MARKERS = {
    "prepare": "examples.json",
    "train": "training.json",
    "evaluate": "blessing.json",
    "plan": "plan.json",
    "precompute": "manifest.json",
    "publish": "published.json",
    "monitor": "monitoring.json",
}
"""The stages in order, and the file that each writes last."""
MAKE_MODEL = ("prepare", "train", "evaluate")
"""The stages of a night that trains its model."""
_ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """One night's folder.

    Attributes:
        job_folder: `<workspace>/<job>`.
        run_date: the night's date.
        run_id: see `derive_run_id`.
    """

    job_folder: str
    run_date: datetime.date
    run_id: str

    @property
    def path(self) -> str:
        """The folder."""
        return storage.join(self.job_folder, self.run_date.isoformat(), self.run_id)

    def file(self, *names: str) -> str:
        """Path of something in the folder."""
        return storage.join(self.path, *names)

    def read_marker(self, name: str) -> dict[str, Any] | None:
        """Content of the marker `name`, or None where its stage is not done.

        Raises:
            RefusedError: another version of Foretable wrote it.
        """
        path = self.file(name)
        return read_marker(path) if storage.exists(path) else None

    def version_of(self, name: str) -> storage.Version:
        """What is there of the marker `name`, to be replaced by `write_marker`; asked before the marker is read."""
        return storage.version_of(self.file(name))

    def write_marker(
        self,
        name: str,
        body: dict[str, Any],
        inputs: dict[str, str],
        seconds: float,
        replacing: storage.Version = None,
    ) -> None:
        """Commits a stage: writes its marker, with the digest of `body` for the stages that read it.

        Raises:
            ForetableError: the marker is not the version that it is to replace: another run committed the stage.
        """
        finished_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        head = {"format": FORMAT, "digest": storage.digest_of(body), "inputs": inputs}
        marker = head | {"finished_at": finished_at, "seconds": round(seconds, 3)} | body
        storage.write_json(self.file(name), marker, replacing)


def read_marker(path: str) -> dict[str, Any]:
    """Content of the marker at `path`.

    Raises:
        RefusedError: another version of Foretable wrote it.
    """
    marker = storage.read_json(path)
    written = marker.get("format") if isinstance(marker, dict) else None
    if written != FORMAT:
        raise RefusedError(
            f"{path}: format {written!r}, this version of foretable reads {FORMAT}; "
            "use the version that wrote it, or another workspace"
        )
    return dict(marker)


def stages_of(job_tree: dict[str, Any]) -> list[str]:
    """The stages of a night of the resolved job in its `job.json`, in order."""
    return [name for name in MARKERS if name not in MAKE_MODEL or not is_foreign(job_tree)]


def job_folder(job: Job) -> str:
    """`<workspace>/<job>`, absolute where it is local: the published view must hold wherever it is read from."""
    folder = storage.join(job.workspace, job.name)
    return str(pathlib.Path(folder).resolve()) if storage.is_local(folder) else folder


def derive_run_id(job: Job, source_fingerprints: list[str], run_date: datetime.date) -> str:
    """Twelve hex digits of everything that decides what is published: the same night again is the same run."""
    parts = [job.digest(), *source_fingerprints, code_version(job), run_date.isoformat()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def code_version(job: Job) -> str:
    """The package's version with a digest of its code and of the team's own functions that the job names."""
    paths = [
        path for package in ("configs", "transforms", "models", "beam_jobs") for path in (_ROOT / package).rglob("*.py")
    ]
    if isinstance(job, TrainedJob):
        paths += [_module_file(reference) for reference in (job.preprocessing_fn, job.model.build_model) if reference]
    content = hashlib.sha256()
    for path in sorted(paths):
        content.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{beam_jobs.__version__}+{content.hexdigest()[:12]}"


def _module_file(reference: str) -> pathlib.Path:
    module = reference.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise RefusedError(f"{reference!r}: no module {module!r} on the Python path; install it or set PYTHONPATH")
    return pathlib.Path(spec.origin)
