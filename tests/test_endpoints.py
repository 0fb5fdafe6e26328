"""Addresses and credentials of the servers in place of Google Cloud."""

import os
import pathlib
import subprocess
import sys
import types

import google.auth
import pytest
from google.auth import exceptions
from google.auth.credentials import AnonymousCredentials

from beam_jobs import endpoints
from configs.cloud import Endpoints
from configs.errors import ForetableError

VARIABLES = ("STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "x")  # so that it is put back as it was
        monkeypatch.delenv(name)
    endpoints._google_credentials.cache_clear()
    yield
    endpoints._google_credentials.cache_clear()


def use(**given):
    endpoints.use_endpoints(types.SimpleNamespace(endpoints=Endpoints(**given)))


def test_a_job_without_endpoints_leaves_the_environment_as_it_is():
    before = dict(os.environ)
    use()
    assert dict(os.environ) == before


def test_addresses_reach_this_process_and_its_children():
    use(storage="http://127.0.0.1:1", bigquery="http://127.0.0.1:2")
    code = "import os; print(os.environ['STORAGE_EMULATOR_HOST'], os.environ['BIGQUERY_EMULATOR_HOST'])"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout == "http://127.0.0.1:1 http://127.0.0.1:2\n"


def test_the_stand_in_credentials_are_valid_without_a_network():
    use(storage="http://127.0.0.1:1")
    found, _ = google.auth.default()
    assert (found.valid, found.token) == (True, "none")


@pytest.mark.parametrize("name", ["GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST"])
def test_credentials_in_the_environment_are_used_instead(monkeypatch, name):
    monkeypatch.setenv(name, "mine")
    use(storage="http://127.0.0.1:1")
    assert os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") in ("mine", None)


def test_nobody_shows_credentials_to_an_endpoint():
    assert isinstance(endpoints.credentials("http://127.0.0.1:1"), AnonymousCredentials)


def test_no_credentials_are_one_line_with_the_mend(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with pytest.raises(
        ForetableError, match=r"^no Google Cloud credentials \(File .*key.json was not found\); run `gcloud"
    ):
        endpoints.credentials(None)


def test_expired_credentials_are_one_line_with_the_mend(monkeypatch):
    class Expired(AnonymousCredentials):
        valid = False

        def refresh(self, request):
            raise exceptions.RefreshError("invalid_grant: Bad Request", {"error": "invalid_grant"})

    monkeypatch.setattr(google.auth, "default", lambda scopes: (Expired(), None))
    with pytest.raises(
        ForetableError, match=r"expired or been revoked \(invalid_grant: Bad Request\); run `gcloud auth"
    ):
        endpoints.credentials(None)


def test_other_errors_are_not_about_credentials():
    assert endpoints.credentials_problem(ValueError("x")) is None


def test_the_package_ships_the_stand_in():
    assert endpoints._STAND_IN.is_file()
    setup = (pathlib.Path(__file__).parent.parent / "setup.py").read_text(encoding="utf-8")
    assert '"beam_jobs": ["*.json"' in setup
