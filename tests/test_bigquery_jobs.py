"""Jobs that run once under an id: what a failed one, a busy BigQuery and a refused question lead to."""

import json
import types
import uuid

import pytest
from bigquery_reader import Reader
from google.api_core import exceptions
from twins.faults import Faults, refusal

from beam_jobs.warehouses.bigquery import dataset as bigquery_dataset
from beam_jobs.warehouses.bigquery.dataset import Dataset
from configs.errors import ForetableError

BUSY = exceptions.Forbidden("Exceeded rate limits", errors=[{"reason": "rateLimitExceeded"}])
WRONG = exceptions.BadRequest("Syntax error", errors=[{"reason": "invalidQuery"}])


class EndedJob:
    """A job that this process started and that has ended, by an error or without."""

    state = "DONE"

    def __init__(self, error=None):
        self.error = error
        self.error_result = {"reason": error.errors[0]["reason"]} if error is not None else None

    def result(self, retry):
        if self.error is not None:
            raise self.error

    def reload(self, **settings):
        pass


@pytest.fixture
def dataset(cloud):
    return Dataset(Reader(cloud).settings, cloud.endpoints)


@pytest.fixture
def job_id():
    return f"foretable_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def pauses(monkeypatch):
    """What was slept, and not slept."""
    slept = []
    monkeypatch.setattr(bigquery_dataset, "time", types.SimpleNamespace(sleep=slept.append))
    return slept


def test_a_job_that_a_busy_server_failed_is_tried_again_after_longer_and_longer_pauses(dataset, job_id, pauses):
    started = []

    def start(attempt_id):
        started.append(attempt_id)
        return EndedJob(BUSY if len(started) < 4 else None)

    assert dataset.run_once(job_id, start)[1] is True
    assert started == [job_id, f"{job_id}_2", f"{job_id}_3", f"{job_id}_4"]
    assert len(pauses) == 3
    assert all(0 <= pause <= longest for pause, longest in zip(pauses, (2, 4, 8), strict=True))


def test_a_server_that_stays_busy_is_given_up(dataset, job_id, pauses):
    started = []
    with pytest.raises(ForetableError, match=r"gives no answer \(Exceeded rate limits\); run again"):
        dataset.run_once(job_id, lambda attempt_id: started.append(attempt_id) or EndedJob(BUSY))
    assert (len(started), len(pauses)) == (8, 7)


def test_a_job_of_ours_that_is_wrong_is_not_tried_again(dataset, job_id, pauses):
    started = []
    with pytest.raises(ForetableError, match="BigQuery refuses: Syntax error"):
        dataset.run_once(job_id, lambda attempt_id: started.append(attempt_id) or EndedJob(WRONG))
    assert (started, pauses) == ([job_id], [])


@pytest.mark.parametrize("state", ["RUNNING", "DONE"])
def test_a_refused_question_about_anothers_job_is_not_its_failure(cloud, dataset, job_id, state):
    dataset.run_once(job_id, dataset.start_statement("SELECT 1"))
    faults = Faults()

    def tell(request, forward):
        """The job as it is in `state`; its rows are denied."""
        if "/queries/" in request.resource:
            return refusal(403, "Access Denied: permission bigquery.jobs.get denied")(request, forward)
        reply = forward(request)
        tree = json.loads(reply.body)
        tree["status"]["state"] = state
        return reply.__class__(reply.status, reply.headers, json.dumps(tree).encode())

    faults.start(lambda number, what: tell)
    with faults.before(cloud.bigquery.endpoint) as (address,):
        endpoints = cloud.endpoints.model_copy(update={"bigquery": address})
        second = Dataset(Reader(cloud).settings, endpoints)
        start = second.start_statement("SELECT 2")
        if state == "RUNNING":
            with pytest.raises(ForetableError, match="permission denied"):
                second.run_once(job_id, start)
        else:
            job, is_mine = second.run_once(job_id, start)
            assert (job.job_id, is_mine) == (job_id, False)
    assert {call.partition(" ")[0] for call in faults.calls} == {"GET"}
