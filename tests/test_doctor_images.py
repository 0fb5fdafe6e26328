"""Images and workers against the code and the lock that are here."""

import os
import shutil
import subprocess
import sys

import apache_beam
import pytest
from conftest import ROOT
from doctor_reports import PYTHON, TAG, VERSIONS

import beam_jobs
from beam_jobs.doctor import cloud as cloud_checks
from beam_jobs.doctor.images import image_tag
from configs.cloud import DataflowRunner


@pytest.mark.parametrize(
    ("tag", "status", "found"),
    [
        (TAG, "ok", f"image {TAG}, as here"),
        (f"0.0.1-py{PYTHON}-beam{apache_beam.__version__}", "fail", "the image has another version 0.0.1 (here: "),
        (f"{beam_jobs.__version__}-py3.9-beam2.70.0", "fail", f"python 3.9 (here: {PYTHON}), beam 2.70.0 (here: "),
        (
            f"{VERSIONS}-0123456789ab",
            "fail",
            f"the image has another code 0123456789ab (here: {TAG.rpartition('-')[2]})",
        ),
        (VERSIONS, "warn", "its tag does not say which code it has"),
        ("latest", "warn", "its tag does not say its versions"),
    ],
)
def test_the_image_against_what_is_here(tag, status, found):
    image = f"region-docker.pkg.dev/p/r/foretable:{tag}"
    (finding,) = cloud_checks.image_checks(
        DataflowRunner(kind="dataflow", project="p", region="r", sdk_container_image=image)
    )
    assert finding.status == status
    assert found in finding.found


@pytest.mark.parametrize(
    ("present", "status"),
    [(("setup.py", "requirements.lock"), "ok"), (("setup.py",), "warn"), ((), "fail")],
    ids=["both", "no lock", "neither"],
)
def test_a_setup_file_needs_the_lock_beside_it(tmp_path, present, status):
    for name in present:
        (tmp_path / name).touch()
    runner = DataflowRunner(kind="dataflow", project="p", region="r", setup_file=str(tmp_path / "setup.py"))
    assert [finding.status for finding in cloud_checks.image_checks(runner)] == [status]


@pytest.fixture
def checkout(tmp_path):
    """As much of one as an image's tag tells of."""
    (tmp_path / "beam_jobs" / "doctor").mkdir(parents=True)
    for name in ("beam_jobs/__init__.py", "beam_jobs/doctor/images.py", "beam_jobs/prices.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "changes"),
    [("beam_jobs/doctor/images.py", True), ("requirements.lock", True), ("beam_jobs/prices.yaml", False)],
)
def test_the_tag_follows_code_and_lock(checkout, name, changes):
    before = image_tag("3.11", "2.77.0", checkout)
    assert before.rpartition("-")[0] == f"{beam_jobs.__version__}-py3.11-beam2.77.0"
    with (checkout / name).open("a") as file:
        file.write("# one more line\n")
    assert (image_tag("3.11", "2.77.0", checkout) != before) == changes


def test_make_image_writes_the_tag_that_the_doctor_reads(tmp_path):
    """With a `docker` that says what it was called with, and a Python that has no packages."""
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$@"\n')
    docker.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["make", "-s", "image", f"IMAGE_PYTHON={PYTHON}", f"PYTHON={sys.executable} -S", "IMAGE=r/foretable"]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    build = f"build --build-arg PYTHON={PYTHON} --build-arg BEAM={apache_beam.__version__} --tag r/foretable:{TAG} ."
    assert told.splitlines() == [build, f"r/foretable:{TAG}"]
