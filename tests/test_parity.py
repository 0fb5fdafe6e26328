"""Parity of the two backends: which points are compared, that the pipeline's side is the table, and what is found."""

import datetime
import json

import numpy as np
import pyarrow as pa
import pytest
import yaml
from conftest import ListedConsole
from house_model import OUTPUTS, TYPES, save_house_model
from hypothesis import given
from hypothesis import strategies as st
from test_foreign_model import JOB, FlatModel, save
from typer.testing import CliRunner

from beam_jobs.cli import app
from beam_jobs.commands.nights import compare_backends
from beam_jobs.foreign_models import given_model
from beam_jobs.night import Night
from beam_jobs.vertex.artifact import place_artifact
from beam_jobs.vertex.parity import chosen_space, engine_predictions, random_positions
from configs.loading import load_job
from transforms.scoring.engine import make_engine
from transforms.space.axes import Axis
from transforms.space.blocks import BLOCK_ROWS
from transforms.space.exclusion import Exclusion
from transforms.space.input_space import InputSpace

DATE = datetime.date(2026, 3, 1)


def space_of(cities=("Basel", "Bern", None), areas=7, rooms=5, exclude=None):
    columns = {"city": list(cities), "area": np.arange(areas, dtype=float).tolist(), "rooms": list(range(rooms))}
    return InputSpace(
        tuple(Axis(name, "values", pa.table({name: values})) for name, values in columns.items()), exclude=exclude
    )


class TestPoints:
    @given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 300), st.integers(0, 5), st.booleans())
    def test_different_ones_none_excluded_as_many_as_asked(self, areas, rooms, count, seed, excludes):
        space = space_of(areas=areas, rooms=rooms, exclude="rooms = 0 AND city = 'Bern'" if excludes else None)
        exclusion = Exclusion(space)
        positions = random_positions(space, exclusion, count, seed)
        assert len(positions) == min(count, space.cardinality - exclusion.excluded_count)
        assert (np.diff(positions) > 0).all()
        assert not exclusion.mask(positions).any()
        assert (positions == random_positions(space, exclusion, count, seed)).all()

    def test_a_space_that_is_too_large_to_look_at(self):
        space = space_of(areas=10_000, rooms=10_000, exclude="rooms >= 5000")
        positions = random_positions(space, Exclusion(space), 1000, seed=1)
        assert len(np.unique(positions)) == 1000
        assert positions.min() < 0.01 * space.cardinality
        assert positions.max() > 0.99 * space.cardinality
        assert (positions % 10_000 < 5000).all()

    def test_as_a_space_of_their_own(self):
        table = pa.table({"from": [1.0, None], "to": [2.0, None]})
        stands = pa.table({"area": [1.5, None]})
        interval = Axis("area", "buckets", table, representatives=stands)
        city = Axis("city", "values", pa.table({"city": ["Basel", None, "Bern"]}))
        space = InputSpace((city, interval))
        chosen = chosen_space(space, np.array([1, 2, 5]))
        assert chosen.columns(np.arange(3)).equals(space.columns(np.array([1, 2, 5])))
        assert chosen.inputs(np.arange(3)).to_pylist() == [
            {"city": "Basel", "area": None},
            {"city": None, "area": 1.5},
            {"city": "Bern", "area": None},
        ]
        assert chosen.digest() != chosen_space(space, np.array([1, 2, 4])).digest()


class TestThePipelinesSide:
    @pytest.mark.parametrize("space", [space_of(), space_of(areas=2000, rooms=20)], ids=["a part", "several blocks"])
    def test_it_is_the_table(self, tmp_path, space):
        engine = make_engine(space, save_house_model(str(tmp_path / "model")), TYPES, OUTPUTS)
        positions = random_positions(space, engine.exclusion, 50, seed=3)
        table = pa.concat_tables(
            pa.Table.from_batches([engine.score_range(start, min(start + BLOCK_ROWS, space.cardinality))])
            for start in range(0, space.cardinality, BLOCK_ROWS)
        )
        found = engine_predictions(engine, positions)
        assert found["price"].tolist() == table["price"].take(positions).to_pylist()
        assert found["flat"].tolist() == table["flat"].take(positions).to_pylist()
        assert [word.decode() for word in found["grade"]] == table["grade"].take(positions).to_pylist()
        assert found["shares"][:, 1].tolist() == table["share_high"].take(positions).to_pylist()


class TestOnTheTwin:
    @pytest.fixture(scope="class")
    def job_file(self, tmp_path_factory, cloud, vertex_twin):
        """A job whose model somebody else made, on all twins."""
        folder = tmp_path_factory.mktemp("parity")
        job = yaml.safe_load(JOB.format(model=save(FlatModel(), folder / "model")))
        job["input_space"]["axes"]["area"]["step"] = 0.5
        job["vertex"] = {"project": vertex_twin.project, "region": vertex_twin.region}
        job["workspace"] = cloud.storage.url()
        job["precompute"] = {"on": "vertex_batch", "batch_size": 64, "jobs": 3}
        addresses = cloud.endpoints.model_dump(exclude_none=True)
        job["endpoints"] = {**addresses, "vertex": vertex_twin.endpoint, "logging": vertex_twin.endpoint}
        job["warehouse"] = {"kind": "bigquery", "project": "proj", "dataset": cloud.bigquery.new_dataset()}
        path = folder / "flats.yaml"
        path.write_text(yaml.safe_dump(job, sort_keys=False))
        return str(path)

    @staticmethod
    def compared(job_file, points=300, seed=0):
        night = Night.of(load_job(job_file), job_file, DATE, ListedConsole())
        return night, compare_backends(night, points, seed, 1e-6)

    def test_the_same_points_say_the_same(self, job_file, vertex_twin):
        night, found = self.compared(job_file)
        assert found["holds"]
        assert (found["points"], found["seed"], found["repeated"]) == (300, 0, 0)
        columns = {column["column"]: column for column in found["columns"]}
        assert list(columns) == ["rent_chf", "share_low_rent", "share_high_rent", "grade", "rooms_seen", "embedding"]
        assert all(columns[name]["unequal"] == 0 for name in ("grade", "rooms_seen"))
        assert columns["rent_chf"]["ulp"] <= 8
        assert json.loads(json.dumps(found)) == found
        (job,) = [job for job in vertex_twin.jobs("batch", "-parity-") if night.run.run_id in job.message.display_name]
        assert job.message.completion_stats.successful_count == 300
        assert job.message.dedicated_resources.starting_replica_count == 1

    def test_asked_again_nothing_is_paid_again(self, job_file, vertex_twin):
        _, once = self.compared(job_file)
        before = len(vertex_twin.jobs("batch"))
        _, again = self.compared(job_file)
        assert (again, len(vertex_twin.jobs("batch"))) == (once, before)
        self.compared(job_file, points=20, seed=1)
        assert len(vertex_twin.jobs("batch")) == before + 1

    def test_a_model_that_is_not_the_one(self, job_file, tmp_path):
        """Vertex was given other weights: the command ends with 3, and says where it is worst."""
        overrides = ["name=flats_mixed_up"]
        night = Night.of(load_job(job_file, overrides), job_file, DATE, ListedConsole())
        other = save(FlatModel(seed=1), tmp_path / "other")
        place_artifact(other, night.run.path, given_model(night.job).model_version, "serving_default")
        arguments = ["parity", job_file, "--date", str(DATE), "--points", "40", "--set", *overrides]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 3, result.output
        assert "40 points (seed 0), model" in result.stdout
        assert "NOT the same within 1e-06 relative" in result.stdout
        assert "rent_chf is furthest apart at city=" in result.stdout

    def test_a_job_without_vertex(self, tmp_path, capfd):
        path = tmp_path / "flats.yaml"
        job = yaml.safe_load(JOB.format(model=save(FlatModel(), tmp_path / "model")))
        path.write_text(yaml.safe_dump({**job, "workspace": str(tmp_path)}))
        result = CliRunner().invoke(app, ["parity", str(path)])
        assert result.exit_code == 2
        expected = "vertex: not set; parity compares the pipeline with batch prediction on Vertex AI"
        assert expected in capfd.readouterr().err
