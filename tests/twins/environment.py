"""Makes the environment of the twins: `python environment.py FOLDER [--optional]`. Standard library only.

It needs Python 3.13 and looks for one in `$PYTHON313`, on the path and among pyenv's and uv's versions; a shim that
does not start is passed over. With `--optional`, no such Python is a line on standard error and no failure.
"""

import glob
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

REQUIREMENTS = pathlib.Path(__file__).parent / "requirements.txt"
EXTENSIONS = ("icu", "ducklake", "avro", "spatial")
PYTHON = "3.13"


def find_python() -> str | None:
    """Path of a Python 3.13 that starts."""
    home = pathlib.Path.home()
    candidates = [
        os.environ.get("PYTHON313", ""),
        shutil.which(f"python{PYTHON}") or "",
        sys.executable,
        *sorted(glob.glob(f"{os.environ.get('PYENV_ROOT', home / '.pyenv')}/versions/{PYTHON}*/bin/python{PYTHON}")),
        *sorted(glob.glob(f"{home}/.local/share/uv/python/cpython-{PYTHON}*/bin/python{PYTHON}")),
    ]
    for candidate in filter(None, candidates):
        ask = [candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        try:
            answer = subprocess.run(ask, capture_output=True, text=True, check=False)
        except OSError:
            continue
        if answer.returncode == 0 and answer.stdout.strip() == PYTHON:
            return candidate
    return None


def make(folder: pathlib.Path, python: str) -> None:
    """Makes a virtual environment in `folder`, with a home of its own for DuckDB's extensions."""
    home = folder / "home"
    own_python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    install = [own_python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*install, "--requirement", str(REQUIREMENTS)], check=True)
    home.mkdir()
    imports = f"from duckdb_extensions import import_extension\nfor name in {EXTENSIONS}: import_extension(name)"
    subprocess.run([own_python, "-c", imports], check=True, env={**os.environ, "HOME": str(home)})


def main(folder: pathlib.Path, is_optional: bool) -> int:
    """Makes the environment unless it is there already; returns the exit code."""
    stamp = folder / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if os.environ.get("FORETABLE_TWINS") or (stamp.exists() and stamp.read_text() == wanted):
        return 0
    python = find_python()
    if python is None:
        print(f"the twins need Python {PYTHON}, and there is none: name one by PYTHON313=", file=sys.stderr)
        return 0 if is_optional else 1
    make(folder, python)
    stamp.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), "--optional" in sys.argv[2:]))
