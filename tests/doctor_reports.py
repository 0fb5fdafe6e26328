"""What the doctor says of the demo's job."""

import sys

import apache_beam
from conftest import NATALITY

import beam_jobs
from beam_jobs import endpoints
from beam_jobs.doctor.examination import examine
from beam_jobs.doctor.images import code_digest
from configs.loading import load_job

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
VERSIONS = f"{beam_jobs.__version__}-py{PYTHON}-beam{apache_beam.__version__}"
TAG = f"{VERSIONS}-{code_digest()}"


def report_on(*overrides):
    job = load_job(NATALITY, overrides)
    endpoints.use_endpoints(job)
    return examine(job, NATALITY)


def by_check(report):
    return {finding["check"]: (finding["status"], finding["found"]) for finding in report["findings"]}
