"""The BigQuery benchmark runs, with few rows, and says what it found."""

import re
import subprocess
import sys

import pytest
from twins.processes import ROOT, twin_environment


def run(*arguments):
    twin_environment()
    command = [sys.executable, "-m", "benchmarks.bigquery", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_reads_beside_beam():
    process = run("read", "--rows=2000", "--rounds=1")
    found = [line.split()[0] for line in process.stdout.splitlines()[2:5]]
    assert found == ["ours", "beam_avro", "beam_arrow"], process.stderr
    assert re.fullmatch(r"[\d.]+ x Beam's default, bar 5 x; [\d.]+ x its faster one", process.stdout.splitlines()[5])


@pytest.mark.slow
def test_publishes():
    process = run("publish", "--rows=200000")
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[2].startswith("250,000 rows published in ")
