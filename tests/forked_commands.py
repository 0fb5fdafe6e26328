"""Runs commands in processes that are forked from one which has done the long imports: many trials in little time."""

import contextlib
import multiprocessing
import os
import pathlib
import sys
import tempfile
from multiprocessing import forkserver

PRELOADED = (
    "impatient_clients",
    "forked_commands",
    "beam_jobs.cli",
    "beam_jobs.commands.nights",
    "beam_jobs.warehouses.bigquery.warehouse",
)
JOB_FILE = str(pathlib.Path(__file__).parent.parent / "configs" / "natality.yaml")
MARKERS = {"plan.json": {"rows": 1}, "manifest.json": [1, 2]}
MODEL_FILES = ("a.txt", "variables/b.txt", "saved_model.pb")
SHARD = bytes(range(256)) * 8192
AMBIENT = ("STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "GCE_METADATA_")


class Forks:
    """Starts functions, each in a process of its own; with clients as in `impatient_clients`, unless told otherwise."""

    def __init__(self, preloaded=PRELOADED):
        forkserver._forkserver._stop()  # the one of another test file, which has done other imports
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preloaded))
        before = dict(os.environ)
        try:
            os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), str(pathlib.Path(__file__).parent)])
            for name in [name for name in os.environ if name.startswith(AMBIENT)]:
                del os.environ[name]
            assert self.run(check_preloaded, preloaded) == 0
        finally:
            os.environ.clear()
            os.environ.update(before)

    def start(self, function, *arguments):
        """Starts a function and does not wait."""
        process = self._context.Process(target=function, args=arguments, daemon=True)
        process.start()
        return process

    def run(self, function, *arguments):
        """Runs a function to its end; returns the process's exit code."""
        process = self.start(function, *arguments)
        process.join()
        return process.exitcode


def check_preloaded(preloaded):
    """Ends with an error where the process was not forked from one that has done the imports."""
    missing = [name for name in preloaded if name not in sys.modules]
    sys.exit(f"not preloaded: {missing}" if missing else 0)


def write_objects(url, settings, log):
    """Writes a folder of `gs://` in every way that a workspace is written, under its lock."""
    from beam_jobs.endpoints import use_endpoints
    from beam_jobs.workspace import storage
    from beam_jobs.workspace.locking import locked
    from configs.loading import load_job
    from transforms.files import create_atomically, upload_folder

    with open(log, "w", buffering=1, encoding="utf-8") as file:
        os.dup2(file.fileno(), 2)
        use_endpoints(load_job(JOB_FILE, settings))
        with locked(f"{url}/.lock", "the folder") as check, tempfile.TemporaryDirectory() as folder:
            for name, tree in MARKERS.items():
                version = storage.version_of(f"{url}/{name}")
                check()
                storage.write_json(f"{url}/{name}", tree, version)
                assert storage.read_json(f"{url}/{name}") == tree
            for name in MODEL_FILES:
                path = pathlib.Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_text(name * 1000)
            storage.write_bytes(f"{url}/model/stray.txt", b"of an earlier try")
            upload_folder(folder, f"{url}/model", "saved_model.pb")
            with create_atomically(f"{url}/predictions/part-0.parquet") as shard:
                shard.write(SHARD)
            storage.write_bytes(f"{url}/predictions/part-1.parquet", b"of an earlier try")
            storage.remove_all_but(f"{url}/predictions", {"part-0.parquet"})


def run_command(arguments, log):
    """Runs the command line with these arguments, and ends this process with its exit code."""
    from beam_jobs.cli import main

    with open(log, "w", buffering=1, encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.argv = ["foretable", *arguments]
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            main()
