"""The source distribution that a job installs: whole, and built once."""

import os
import pathlib
import shutil
import tarfile

import pytest
from training_jobs import copy_checkout, local_job

from beam_jobs.vertex import staging
from beam_jobs.vertex.staging import stage_package
from configs.errors import ForetableError, JobError


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


class TestStaging:
    def test_the_package_is_whole_and_built_once(self, checkout, tmp_path, monkeypatch):
        package = stage_package(local_job(tmp_path), checkout)
        assert pathlib.Path(package.lock).read_bytes() == (checkout / "requirements.lock").read_bytes()
        with tarfile.open(package.sdist) as archive:
            packed = {name.partition("/")[2] for name in archive.getnames()}
        needed = {str(path.relative_to(checkout)) for path in staging._sources(checkout)} - {"requirements.lock"}
        assert needed - packed == set()
        assert not list(checkout.glob("*.egg-info"))
        assert not (checkout / "dist").exists()
        monkeypatch.setattr(staging, "_build_sdist", None)
        assert stage_package(local_job(tmp_path), checkout) == package

    def test_other_code_has_another_folder(self, checkout, tmp_path, monkeypatch):
        monkeypatch.setattr(staging, "_build_sdist", lambda root, sources: b"sdist")
        before = stage_package(local_job(tmp_path), checkout)
        prices = checkout / "beam_jobs" / "prices.yaml"
        text = prices.read_text()
        prices.write_text(f"{text}\n")
        after = stage_package(local_job(tmp_path), checkout)
        prices.write_text(text)
        (checkout / "configs" / "__pycache__").mkdir(exist_ok=True)
        (checkout / "configs" / "__pycache__" / "x.pyc").write_bytes(b"x")
        assert before.sdist != after.sdist
        assert stage_package(local_job(tmp_path), checkout) == before

    def test_half_an_upload_is_none(self, checkout, tmp_path, monkeypatch):
        monkeypatch.setattr(staging, "_build_sdist", lambda root, sources: b"sdist")
        package = stage_package(local_job(tmp_path), checkout)
        os.unlink(package.sdist)
        pathlib.Path(package.lock).write_text("half")
        stage_package(local_job(tmp_path), checkout)
        assert pathlib.Path(package.lock).read_bytes() == (checkout / "requirements.lock").read_bytes()

    def test_what_is_installed_without_a_checkout_is_refused(self, tmp_path):
        expected = r"model\.training\.python_package: \S+/setup\.py: not there; expected a checkout of this project"
        with pytest.raises(JobError, match=expected):
            stage_package(local_job(tmp_path), tmp_path)

    def test_a_build_that_fails_is_one_line(self, checkout, tmp_path):
        broken = tmp_path / "broken"
        shutil.copytree(checkout, broken)
        (broken / "setup.py").write_text("raise SystemExit('no such luck')\n")
        with pytest.raises(ForetableError, match=r"cannot build a source distribution: no such luck$"):
            stage_package(local_job(tmp_path), broken)
