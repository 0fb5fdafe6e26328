"""Which places of Google Cloud go together."""

import pytest

from beam_jobs.doctor.locations import location_checks, vertex_location_checks


@pytest.mark.parametrize(
    ("dataset", "bucket", "region", "expected"),
    [
        ("US", "EUROPE-WEST1", None, ["ok"]),
        ("EU", "EUROPE-WEST1", None, ["ok"]),
        ("EU", "EU", "europe-west4", ["ok"]),
        ("EU", "US", "us-central1", ["fail"]),
        ("europe-west1", "EU", None, ["fail"]),
        ("europe-west1", "EUROPE-WEST1", "europe-west1", ["ok"]),
        ("us-east1", "US-EAST1", "us-central1", ["ok", "warn"]),
        ("EU", "EUROPE-WEST2", None, ["fail"]),
        ("EU", "EUROPE-WEST6", None, ["fail"]),
        ("EU", "EUROPE-WEST12", None, ["ok"]),
        ("EU", "EUR4", None, ["warn"]),
        ("europe-west4", "EUR4", "europe-west4", ["warn", "warn"]),
        (None, "US", "us-central1", []),
        (None, "US", "northamerica-northeast1", ["warn"]),
        (None, "EU", "europe-west2", ["warn"]),
        (None, "EU", "us-central1", ["warn"]),
    ],
)
def test_which_places_go_together(dataset, bucket, region, expected):
    assert [finding.status for finding in location_checks(dataset, bucket, region)] == expected


@pytest.mark.parametrize(
    ("region", "bucket", "instances", "predicts", "expected"),
    [
        ("us-central1", "US-CENTRAL1", None, True, ["ok"]),
        ("us-central1", "US", "US", True, ["ok"]),
        ("europe-west4", "US", None, True, ["fail"]),
        ("europe-west4", "US", None, False, ["warn"]),
        ("us-central1", "US", "EU", True, ["fail"]),
        ("europe-west4", "US", "US", True, ["fail", "fail"]),
        ("europe-west2", "EU", None, True, ["fail"]),
        ("northamerica-northeast1", "US", None, True, ["fail"]),
        ("europe-west4", "EUR4", None, True, ["warn"]),
    ],
)
def test_vertex_reads_and_writes_in_its_own_region(region, bucket, instances, predicts, expected):
    findings = list(vertex_location_checks(region, bucket, instances, predicts))
    assert [finding.status for finding in findings] == expected
