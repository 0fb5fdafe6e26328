"""The custom job that a training on Vertex AI asks for."""

from typing import get_args

import pytest
from run_directories import natality_job
from training_jobs import CONTAINER, IMAGE, NAME, PACKAGE, RUN_ID, job_with, request

from configs.errors import JobError
from configs.vertex import AcceleratorType


def pool(replicas, machine=None, container=None):
    """A worker pool of the request."""
    trainer = {"imageUri": IMAGE, "command": ["python", "-m", "models.trainer"], "args": ["--job", "gs://bkt/job.json"]}
    return {
        "machineSpec": {"machineType": "n1-standard-8", **(machine or {})},
        "replicaCount": str(replicas),
        "containerSpec": container or trainer,
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
    }


ACCELERATORS = ", ".join(map(repr, get_args(AcceleratorType)[:-1])) + f" or {get_args(AcceleratorType)[-1]!r}"


class TestRequest:
    def test_is_complete(self):
        assert request(CONTAINER) == {
            "displayName": NAME,
            "jobSpec": {
                "workerPoolSpecs": [pool(1)],
                "scheduling": {"timeout": "86400s", "restartJobOnWorkerRestart": True, "strategy": "STANDARD"},
                "baseOutputDirectory": {"outputUriPrefix": f"gs://bkt/ws/natality/2026-01-05/{RUN_ID}"},
            },
            "labels": {
                "foretable_job": "natality",
                "foretable_step": "train",
                "foretable_run_id": RUN_ID,
                "foretable_run_date": "2026-01-05",
            },
        }

    @pytest.mark.parametrize(
        ("training", "pools"),
        [
            ({"strategy": "none"}, [pool(1)]),
            (
                {
                    "strategy": "mirrored",
                    "accelerator": {"type": "NVIDIA_L4", "count": 2},
                    "machine_type": "g2-standard-24",
                },
                [
                    pool(
                        1,
                        {"machineType": "g2-standard-24", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 2},
                    )
                ],
            ),
            ({"strategy": "multi_worker", "replica_count": 2}, [pool(1), pool(1)]),
            ({"strategy": "multi_worker", "replica_count": 4}, [pool(1), pool(3)]),
            ({"strategy": "tpu", "machine_type": "ct5lp-hightpu-1t"}, [pool(1, {"machineType": "ct5lp-hightpu-1t"})]),
            (
                {"strategy": "tpu", "machine_type": "ct5lp-hightpu-4t", "tpu_topology": "2x2"},
                [pool(1, {"machineType": "ct5lp-hightpu-4t", "tpuTopology": "2x2"})],
            ),
        ],
        ids=["none", "mirrored", "two workers", "four workers", "tpu", "several tpus"],
    )
    def test_pools_are_the_strategy_s(self, training, pools):
        assert request(CONTAINER | training)["jobSpec"]["workerPoolSpecs"] == pools

    def test_every_setting_has_its_place(self):
        training = {
            "service_account": "trainer@proj",
            "network": "projects/1/global/networks/theirs",
            "timeout": "90m",
            "spot": True,
            "boot_disk_gb": 300,
            "labels": {"team": "weights"},
            "tensorboard": "projects/proj/locations/us-central1/tensorboards/7",
        }
        vertex = {"service_account": "all@proj", "network": "projects/1/global/networks/ours", "labels": {"team": "x"}}
        made = request(CONTAINER | training, vertex=vertex)
        spec = made["jobSpec"]
        assert spec["scheduling"] == {"timeout": "5400s", "restartJobOnWorkerRestart": True, "strategy": "SPOT"}
        assert (spec["serviceAccount"], spec["network"]) == ("trainer@proj", "projects/1/global/networks/theirs")
        assert spec["tensorboard"] == "projects/proj/locations/us-central1/tensorboards/7"
        assert spec["workerPoolSpecs"][0]["diskSpec"]["bootDiskSizeGb"] == 300
        assert made["labels"]["team"] == "weights"
        spec = request(CONTAINER, vertex=vertex)["jobSpec"]
        assert (spec["serviceAccount"], spec["network"]) == ("all@proj", "projects/1/global/networks/ours")

    def test_a_package_is_installed_before_the_trainer_takes_the_shell_s_place(self):
        (only,) = request({"on": "vertex", "python_package": {"image": "python:3.12"}}, PACKAGE)["jobSpec"][
            "workerPoolSpecs"
        ]
        container = only["containerSpec"]
        assert container["imageUri"] == "python:3.12"
        assert container["command"][:3] == ["sh", "-e", "-c"]
        assert container["args"] == ["--job", "gs://bkt/job.json"]
        assert "$(" not in container["command"][3]  # which Vertex would take for a variable of its own


def test_accelerators_are_those_of_googles_client():
    from google.cloud.aiplatform_v1.types import AcceleratorType as Known

    assert get_args(AcceleratorType) == tuple(each.name for each in Known if each)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (
            {"build_model": "team.nets:build", "training": {"on": "vertex", "python_package": {}}},
            "model.build_model: 'team.nets:build': expected none beside training.python_package, which has this project"
            " only; use training.container",
        ),
        (
            {"training": CONTAINER | {"tensorboard": "projects/p/locations/l/tensorboards/7"}},
            "model.training.tensorboard: 'projects/p/locations/l/tensorboards/7': expected training.service_account, or"
            " vertex.service_account, that may write there",
        ),
        (
            {"training": CONTAINER | {"accelerator": {"type": "NVIDIA_T4"}}},
            f"model.training.accelerator.type: 'NVIDIA_T4': input should be {ACCELERATORS}",
        ),
        (
            {"training": CONTAINER | {"tpu_topology": "2x2"}},
            "model.training: tpu_topology 2x2 and strategy none; expected strategy tpu",
        ),
        (
            {"training": CONTAINER | {"labels": {"team": "Team A!"}}},
            "model.training.labels.team: 'Team A!': string should match pattern '^[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}\\p{N}_-]{0,63}$'",
        ),
    ],
    ids=["the team's code", "tensorboard", "accelerator", "tpu topology", "label"],
)
def test_what_cannot_work_is_said_when_the_job_file_is_read(model, problem):
    job = job_with(CONTAINER).model_dump(mode="json") | {"model": model}
    with pytest.raises(JobError) as error:
        natality_job(**job)
    assert str(error.value) == f"job: {problem}"
