"""What a Dataflow worker installs with `--setup_file`: the package from its sdist, with the files that it reads."""

import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import venv

import pytest
from conftest import ROOT

PARTS = ("setup.py", "pyproject.toml", "configs", "transforms", "models", "beam_jobs")
"""What the Dockerfile copies into the image: no README, no lock."""


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    subprocess.run([sys.executable, "setup.py", "-q", "sdist"], cwd=folder, check=True, capture_output=True)
    (archive,) = (folder / "dist").glob("foretable-*.tar.gz")
    return archive


def test_it_has_every_file_that_the_package_reads(sdist):
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    packages = ("configs", "transforms", "models", "beam_jobs")
    needed = [path for package in packages for path in (ROOT / package).rglob("*") if path.is_file()]
    needed = {str(path.relative_to(ROOT)) for path in needed if "__pycache__" not in path.parts}
    assert needed - packed == set()


def test_the_image_is_made_of_what_the_ignore_file_lets_through():
    copied = set(re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    names = {name.split("/")[0] for line in copied for name in line.split()}
    assert names == let_through
    assert all((ROOT / name).exists() for name in names)


def test_the_image_has_the_beam_of_the_lock():
    (beam,) = re.findall(r"^ARG BEAM=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert f"\napache-beam=={beam}\n" in (ROOT / "requirements.lock").read_text()


@pytest.mark.slow
def test_it_installs_by_itself(sdist, tmp_path):
    venv.create(tmp_path / "worker", with_pip=True)
    python = str(tmp_path / "worker" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", str(sdist)]
    subprocess.run(install, check=True)
    ask = "import beam_jobs, pathlib; print(pathlib.Path(beam_jobs.__file__).with_name('prices.yaml').is_file())"
    answer = subprocess.check_output([python, "-c", ask], text=True, cwd=tmp_path)
    assert answer == "True\n"
    assert not pathlib.Path(tmp_path, "beam_jobs").exists()
