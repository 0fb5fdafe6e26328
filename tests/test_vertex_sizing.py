"""Replicas and minutes of batch prediction: Google's own example, the formula's laws, and what is warned of."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.vertex.sizing import minutes_for, replicas_for, resize, size_batches
from configs.precomputing import VertexBatchPrecompute
from configs.vertex import Accelerator

BATCHES, REPLICAS, SECONDS = st.integers(1, 10**7), st.integers(1, 500), st.floats(1e-4, 60)


def batch_job(**settings):
    return VertexBatchPrecompute(on="vertex_batch", **settings)


def test_googles_own_example():
    """1 million instances in batches of 100, a second a batch, in 10 minutes: "rounds up to 17 replicas"."""
    sizing = size_batches(1_000_000, 1.0, batch_job(batch_size=100))
    assert sizing.batches == 10_000
    assert replicas_for(sizing.batches, minutes=10, batch_seconds=1.0) == 17


class TestTheFormula:
    def test_a_batch_is_one_replicas(self):
        assert minutes_for(batches=10, replicas=3, batch_seconds=60) == 4

    @given(BATCHES, REPLICAS, SECONDS)
    def test_so_many_replicas_are_enough_for_the_minutes_that_they_take(self, batches, replicas, seconds):
        assert replicas_for(batches, minutes_for(batches, replicas, seconds), seconds) <= replicas

    @given(BATCHES, st.floats(0.1, 1000), SECONDS)
    def test_one_replica_less_would_take_longer(self, batches, minutes, seconds):
        wanted = replicas_for(batches, minutes, seconds)
        if wanted > 1:
            assert batches * seconds / 60 / (wanted - 1) > minutes

    @given(BATCHES, REPLICAS, SECONDS)
    def test_a_replica_more_never_takes_longer(self, batches, replicas, seconds):
        assert minutes_for(batches, replicas + 1, seconds) <= minutes_for(batches, replicas, seconds)

    @given(st.integers(0, 10**8), st.integers(1, 40), st.integers(1, 5000), SECONDS)
    def test_every_instance_is_in_a_batch(self, instances, jobs, batch_size, seconds):
        sizing = size_batches(instances, seconds, batch_job(jobs=jobs, batch_size=batch_size))
        assert sizing.batches * batch_size >= instances
        assert sizing.jobs <= jobs
        assert sizing.batches <= math.ceil(instances / batch_size) + sizing.jobs


class TestASizing:
    def test_the_configured_replicas_come_first(self):
        sizing = size_batches(1_000_000, 0.5, batch_job(jobs=3, starting_replica_count=2))
        first = sizing.choices[0]
        batches = 3 * math.ceil(math.ceil(1_000_000 / 3) / 1024)
        assert (sizing.batches, first.replicas) == (batches, 6)
        minutes = math.ceil(batches / 6) * 0.5 / 60
        assert first.minutes == round(minutes, 6)
        assert [choice.replicas for choice in sizing.choices] == [6, 1, 12, 24, 60]
        assert first.machine_hours == pytest.approx((6 * (5 + minutes) / 60, 6 * (10 + minutes) / 60), abs=1e-4)

    def test_the_advised_replicas_have_ten_minutes_of_work_each(self):
        sizing = size_batches(1_000_000, 1.0, batch_job(batch_size=100))
        assert sizing.advised_replicas == 16  # the 17 of the formula are done a little earlier
        assert minutes_for(sizing.batches, 16, 1.0) >= 10 > minutes_for(sizing.batches, 17, 1.0)
        assert 16 in [choice.replicas for choice in sizing.choices]

    def test_accelerators_take_longer_to_start(self):
        sizing = size_batches(10**7, 1.0, batch_job(accelerator=Accelerator(type="NVIDIA_TESLA_T4")))
        assert sizing.startup_minutes == (10, 15)
        assert sizing.advised_replicas == math.floor(sizing.batches / 60 / 20)

    def test_it_survives_json_and_follows_new_settings(self):
        stored = json.loads(json.dumps(size_batches(50_000, 0.25, batch_job()).to_json()))
        again = resize(stored, batch_job(starting_replica_count=4))
        assert again == size_batches(50_000, 0.25, batch_job(starting_replica_count=4))
        assert resize(stored, batch_job(batch_size=2048)) is None

    @pytest.mark.parametrize(
        ("settings", "warned"),
        [
            ({}, ["to start", "max_replica_count"]),
            ({"batch_size": 64}, ["to start", "max_replica_count", "are slow"]),
            (
                {"starting_replica_count": 5},
                ["to start", "max_replica_count", "Google advises 10 minutes at least, so 1 of them"],
            ),
        ],
        ids=["always", "Vertex's default batch", "more replicas than work"],
    )
    def test_warnings(self, settings, warned):
        warnings = size_batches(10_000, 0.01, batch_job(**settings)).warnings
        assert len(warnings) == len(warned)
        assert all(words in warning for words, warning in zip(warned, warnings, strict=True))
