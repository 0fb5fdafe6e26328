"""Names on Vertex AI."""

import re

from vertex_launching import NAME, night_of

from beam_jobs.vertex import names


class TestNames:
    def test_say_job_step_run_version_and_attempt(self):
        night = night_of()
        assert names.display_name(night, "train") == NAME
        version = names.display_name(night, "precompute", "0123456789abcdef/1")
        assert re.fullmatch("foretable-natality-precompute-abcdef012345-[0-9a-f]{8}", version)
        assert version != names.display_name(night, "precompute", "0123456789abcdef/2")
        assert [names.attempt_name(NAME, attempt) for attempt in (1, 2)] == [NAME, f"{NAME}-2"]

    def test_fit_vertex_s_limits_for_the_longest_job(self):
        night = night_of(name="b" + "_long" * 12 + "_x")
        assert len(night.job.name) == 63
        name = names.attempt_name(names.display_name(night, "precompute", "v"), 100)
        assert len(name) <= 128
        assert names.resource_id(night_of(name="a_").job) != names.resource_id(night_of(name="a").job)
        assert len(names.resource_id(night.job)) == 63
        assert names.resource_id(night.job) != names.resource_id(night_of(name="b" + "_long" * 12 + "_y").job)
        assert all(len(value) <= 63 for value in names.labels(night, "train").values())

    def test_labels_are_those_of_the_job_file_and_ours(self):
        assert names.labels(night_of(), "train", {"team": "weights", "cost": "a"}) == {
            "team": "weights",
            "cost": "a",
            "foretable_job": "natality",
            "foretable_step": "train",
            "foretable_run_id": "abcdef012345",
            "foretable_run_date": "2026-01-05",
        }
