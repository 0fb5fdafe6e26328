"""Where Google Cloud keeps things, and which places go together."""

import re
from collections.abc import Iterator

from beam_jobs.doctor.findings import Finding

MULTI_REGIONS = {"US": re.compile(r"us-.+"), "EU": re.compile(r"europe-(?!west[26]$).+")}
"""Regions of each; London and Zurich are in Europe and not in EU. https://cloud.google.com/storage/docs/locations"""
_DUAL_REGION = re.compile(r"[A-Z]+\d+", re.IGNORECASE)  # EUR4, NAM4: a region's name has a dash


def location_checks(dataset: str | None, bucket: str | None, region: str | None) -> Iterator[Finding]:
    """Whether the dataset can load from the bucket, and whether workers sit beside it.

    A dataset loads from a bucket in its own place or within its multi-region; one in the US loads from anywhere.
    https://cloud.google.com/bigquery/docs/batch-loading-data#data-locations

    Args:
        dataset: location of it, such as `EU`; None where there is none.
        bucket: location of it.
        region: of the Dataflow runner.
    """
    if dataset is not None and bucket is not None:
        if dataset.upper() == "US" or is_within(bucket, dataset):
            yield Finding("locations", "ok", f"dataset in {dataset}, bucket in {bucket}")
        elif _DUAL_REGION.fullmatch(bucket):
            found = f"BigQuery in {dataset} loads from a bucket in {bucket} only if that dual-region lies within it"
            yield Finding("locations", "warn", found, f"look it up, or use a bucket in {dataset}")
        else:
            found = f"BigQuery in {dataset} does not load from a bucket in {bucket}"
            yield Finding("locations", "fail", found, f"use a bucket in {dataset}, or a dataset in {bucket}")
    if region is not None and bucket is not None and _DUAL_REGION.fullmatch(bucket):
        found = f"Dataflow in {region} and the bucket in {bucket}: where that dual-region has no {region}, data crosses"
        yield Finding("locations", "warn", f"{found} regions", f"look it up, or use a bucket in {region}")
    elif region is not None and bucket is not None and not is_within(region, bucket):
        found = f"Dataflow in {region} and the bucket in {bucket}: data crosses regions, which takes time and is billed"
        yield Finding("locations", "warn", found, f"set runner.region to one in {bucket}, or use a bucket in {region}")


def vertex_location_checks(region: str, bucket: str, instances: str | None, predicts: bool) -> Iterator[Finding]:
    """Whether Vertex AI's region is that of what it reads and writes.

    Instances and predictions must be in the region of the model, or in the multi-region around it.
    https://cloud.google.com/vertex-ai/docs/predictions/get-batch-predictions

    Args:
        bucket: location of the workspace's.
        instances: location of the dataset of their tables; None where they are files.
        predicts: whether batch prediction runs there.
    """
    places = {"the bucket": bucket, **({"the dataset of instances": instances} if instances is not None else {})}
    for what, place in places.items():
        if is_within(region, place):
            continue
        found = f"Vertex AI in {region} and {what} in {place}"
        mend = f"set vertex.region to one in {place}, or move {what} to {region}"
        if _DUAL_REGION.fullmatch(place):
            yield Finding("locations", "warn", f"{found}: right if that dual-region has {region}", mend)
        elif predicts:
            yield Finding("locations", "fail", f"{found}: batch prediction reads and writes in its own region", mend)
        else:
            yield Finding("locations", "warn", f"{found}: data crosses regions, which takes time and is billed", mend)
    if all(is_within(region, place) for place in places.values()):
        yield Finding("locations", "ok", f"Vertex AI in {region}, bucket in {bucket}")


def is_within(place: str, other: str) -> bool:
    """Whether a region, or multi-region, is the other one or a part of it."""
    regions = MULTI_REGIONS.get(other.upper())
    return place.lower() == other.lower() or (regions is not None and regions.fullmatch(place.lower()) is not None)
