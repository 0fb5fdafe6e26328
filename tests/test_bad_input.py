"""What goes wrong in practice, given to the whole command: one clear line, the right exit code, and nothing lost."""

import gzip
import os
import pathlib
import re
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import FIRST_DATE, NATALITY, ROOT, SMALL, ListedConsole, Workspace

from beam_jobs.night import Night, run_stage
from beam_jobs.stages import prepare
from configs.errors import RefusedError
from configs.loading import load_job

HEADER = "weight_pounds,is_male,mother_age,plurality,gestation_weeks,hashmonth\n"
ROW = "{weight},True,{age},Single(1),39,{month}\n"


def csv(tmp_path, content, name="births.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"source={{kind: csv, files: {path}}}"


def good_rows(count=200):
    return "".join(ROW.format(weight=6 + row % 5, age=18 + row % 20, month=row % 12) for row in range(count))


def refused(tmp_path, *overrides):
    """Lines of the error that `prepare` ends with."""
    with pytest.raises(RefusedError) as caught:
        prepared(tmp_path, *overrides)
    return str(caught.value).splitlines()


def prepared(tmp_path, *overrides):
    """The night whose `prepare` was run, in this process."""
    job = load_job(NATALITY, [*SMALL, f"workspace={tmp_path}/workspace", *overrides])
    night = Night.of(job, NATALITY, FIRST_DATE, ListedConsole())
    with night.working():
        run_stage(prepare.STAGE, night)
    return night


def test_a_truncated_parquet_file(tmp_path):
    path = tmp_path / "births.parquet"
    pq.write_table(pa.table({"weight_pounds": [7.5] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    (line,) = refused(tmp_path, f"source={{kind: parquet, files: {path}}}")
    assert line.startswith(f"{path}: cannot be read; truncated or corrupt?")


def test_a_truncated_gzip_file(tmp_path):
    content = gzip.compress((HEADER + good_rows()).encode())
    (line,) = refused(tmp_path, csv(tmp_path, content[:-30], "births.csv.gz"))
    assert "births.csv.gz" in line


def test_a_row_with_a_wrong_column_count(tmp_path):
    (line,) = refused(tmp_path, csv(tmp_path, HEADER + good_rows(3) + "7.5,True,30\n" + good_rows(200)))
    assert re.search(r"max_bad_rows: 1 bad row, more than max_bad_rows=0: .*births\.csv:5: ", line)


def test_bytes_that_are_not_utf_8(tmp_path):
    content = (HEADER + good_rows(2)).encode() + b"7.5,\xff\xfe,30,Single(1),39,3\n" + good_rows().encode()
    (line,) = refused(tmp_path, csv(tmp_path, content))
    assert re.search(r"births\.csv:4: ", line)
    assert "UTF-8" in line


def test_an_empty_file(tmp_path):
    (line,) = refused(tmp_path, csv(tmp_path, ""))
    assert "births.csv" in line


def test_a_missing_column(tmp_path):
    (line,) = refused(tmp_path, csv(tmp_path, HEADER.replace("plurality", "plural") + good_rows()))
    assert "births.csv" in line
    assert "'plurality'" in line


def test_a_glob_without_files(tmp_path):
    (line,) = refused(tmp_path, f"source={{kind: csv, files: {tmp_path}/nothing-*.csv}}")
    assert line == f"source.files: no file matches '{tmp_path}/nothing-*.csv'"


def test_a_constant_label(tmp_path):
    rows = "".join(ROW.format(weight=7.5, age=18 + row % 20, month=row % 12) for row in range(200))
    lines = refused(tmp_path, csv(tmp_path, HEADER + rows))
    assert "label.weight_pounds: the label is 7.5 in every row of the train split" in lines


def test_an_empty_split(tmp_path):
    (line,) = refused(
        tmp_path, csv(tmp_path, HEADER + "".join(ROW.format(weight=r, age=20 + r, month=5) for r in range(9)))
    )
    assert re.match(r"split: the (train|eval) split is empty: split.by=\[hashmonth\], split.eval=0.2 over 9 rows", line)


def test_tolerated_bad_rows_are_set_aside_with_their_reasons(tmp_path):
    source = csv(tmp_path, HEADER + good_rows() + "7.5,True,old,Single(1),39,3\n")
    night = prepared(tmp_path, source, "max_bad_rows=1")
    assert any("1 bad row set aside" in line for line in night.console.lines)
    (bad_row,) = pathlib.Path(night.run.file("bad_rows.jsonl")).read_text().splitlines()
    assert '"line": 202' in bad_row
    assert '"value": "old"' in bad_row


def test_a_disk_that_is_full(tmp_path):
    """On a file system of 100 kB; with more room, the same command goes on."""
    overrides = Workspace(tmp_path / "disk" / "workspace", *SMALL, "source.rows=20000")
    command = " ".join(f"'{word}'" for word in overrides.command("prepare"))
    (tmp_path / "disk").mkdir()
    script = (
        f"mount -t tmpfs -o size=100k tmpfs {tmp_path}/disk && {command}; echo exit $?; "
        f"mount -o remount,size=100m {tmp_path}/disk && {command}; echo exit $?; find {tmp_path}/disk -name '*.tmp'"
    )
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.stdout.splitlines() == ["exit 5", "exit 0"], result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert re.match(rf"error: (prepare: )?{tmp_path}/disk/.*no space left on", line, re.IGNORECASE), line


def test_a_folder_in_place_of_a_job_file(tmp_path):
    process = subprocess.run(
        [*Workspace(tmp_path).command("validate")[:4], str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr == f"error: {tmp_path}: cannot read the job file: Is a directory\n"


def test_a_word_that_is_not_behind_the_dashes(tmp_path):
    process = Workspace(tmp_path / "workspace", *SMALL).run("run", "--workers", code=2)
    assert "--workers" in process.err
    assert not (tmp_path / "workspace").exists()


def test_a_second_job_file(tmp_path):
    process = Workspace(tmp_path / "workspace", *SMALL).run("run", "configs/chicago_taxi.yaml", code=2)
    assert process.err.startswith("error: 'configs/chicago_taxi.yaml': unexpected; one job file a command")


def test_the_shipped_job_files_hold_no_path_of_a_machine():
    for path in sorted(pathlib.Path(ROOT, "configs").glob("*.yaml")):
        assert not re.search(r": /|'/", path.read_text()), path
        assert yaml.safe_load(path.read_text())["name"] == path.stem.removesuffix("_gcp")
    assert os.path.isabs(ROOT)
