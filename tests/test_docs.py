"""The README says what is so: its commands exist, its job file is valid, its dependencies are those of setup.py."""

import pathlib
import re
import subprocess
import sys

import pytest

from configs.job import ForeignJob
from configs.loading import parse_job, read_yaml

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


@pytest.fixture(scope="module")
def help_text():
    command = [sys.executable, "-m", "beam_jobs", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_the_annotated_job_file_is_valid():
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    job = parse_job(read_yaml(block))
    assert job.name == "births"


@pytest.mark.parametrize("commented", re.findall(r"^ *# (\w+: .+?)(?:  +#.*)?$", README, re.MULTILINE))
def test_alternatives_in_comments_are_valid_settings(commented):
    """Each line that is commented out in the annotated job file can be put in place of what it stands beside."""
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    tree = read_yaml(block)
    ((name, value),) = read_yaml(commented.split("   #")[0]).items()
    if name in ("label", "customers"):
        del tree["publish"]["contracts"]  # of the label, and along an axis, that are then not there
    if name == "age":
        tree["features"]["mother_age"]["transforms"].pop(0)  # the z-score
        tree["input_space"]["axes"]["mother_age"] = value
    elif name in ("routes", "customers"):
        axes = tree["input_space"]["axes"]
        features = {"origin": {"type": "string"}, "dest": {"type": "string"}}
        if name == "customers":
            axes.clear()
            del tree["input_space"]["exclude"]
        else:
            tree["features"] |= features
        axes[name] = value
    elif name == "build_model":
        tree["model"][name] = value
    elif name == "preprocessing_fn":
        tree[name] = value
        del tree["crosses"]
        for feature in tree["features"].values():
            feature.pop("transforms", None)
    else:
        tree[name] = value
        if name == "label":
            tree["columns"] = {"tips": "float", "fare": "float"}
            tree["task"] = "binary"
    parse_job(tree)


def test_the_job_with_a_given_model_is_valid():
    (block,) = re.findall(r"```\n(name: rent\n.*?)```", README, re.DOTALL)
    assert isinstance(parse_job(read_yaml(block)), ForeignJob)


def test_the_cloud_job_differs_as_its_page_says():
    here, there = (
        (ROOT / "configs" / name).read_text().splitlines() for name in ("natality.yaml", "natality_gcp.yaml")
    )
    added = [line for line in there if line not in here and not line.startswith("#")]
    (shown,) = re.findall(r"```\n(workspace: .*?)```", (ROOT / "docs" / "cloud.md").read_text(), re.DOTALL)
    assert shown.splitlines() == added


def test_what_vertex_takes_beside_the_cloud_job_is_valid():
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "vertex.md").read_text(), re.DOTALL)
    job = parse_job(read_yaml((ROOT / "configs" / "natality_gcp.yaml").read_text()) | read_yaml(block))
    assert (job.model.training.on, job.precompute.on) == ("vertex", "vertex_batch")
    assert job.model.training.container == job.runner.sdk_container_image


def test_every_command_is_documented_and_every_documented_one_exists(help_text):
    existing = set(re.findall(r"^  (\w+) ", help_text.partition("Commands:\n")[2].partition("\n\n")[0], re.MULTILINE))
    table = README.partition("## The commands")[2].partition("Common options")[0]
    documented = set(re.findall(r"`foretable (\w+)", table)) | set(re.findall(r", `(\w+)`", table))
    assert existing == documented


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page, help_text):
    text = page.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:\$ |`)make ([a-z-]+)", text)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in set(re.findall(r"\]\(([^):#]+)\)", text)):
        assert (page.parent / link).exists(), link
    for command in set(re.findall(r"(?:\$ |`)foretable ([a-z]+)", text)):
        assert re.search(rf"^  {command} ", help_text, re.MULTILINE), command
    for module in set(re.findall(r"python -m (benchmarks\.\w+)", text)):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    for path in set(re.findall(r"`((?:tests|configs|benchmarks|beam_jobs)/[\w./]+\.\w+)`", text)):
        assert (ROOT / path).exists(), path


def test_the_dependency_table_is_setup_pys():
    setup = (ROOT / "setup.py").read_text()
    required = set(
        re.findall(r'"([A-Za-z0-9-]+)(?:\[\w+\])?[<>=]', setup.partition("install_requires")[2].partition("],\n")[0])
    )
    table = README.partition("## Dependencies")[2].partition("For development")[0]
    documented = {
        name.strip().removesuffix("[gcp]")
        for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
        for name in row.split(",")
    }
    assert required == documented - {"package", "---"}


def test_the_lock_has_every_dependency():
    setup = (ROOT / "setup.py").read_text().partition("install_requires")[2]
    locked = {
        line.partition("==")[0].partition("[")[0].lower()
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    for name in re.findall(r'"([A-Za-z0-9-]+)(?:\[\w+\])?(?:[<>=]|")', setup.partition("entry_points")[0]):
        if name not in ("dev", "bench", "ray"):
            assert name.lower() in locked, name


def test_the_readme_shows_what_differs_in_the_cloud():
    here, there = (
        (ROOT / "configs" / name).read_text().splitlines() for name in ("natality.yaml", "natality_gcp.yaml")
    )
    gone = [f"-{line}" for line in here if line not in there and not line.startswith("#")]
    added = [f"+{line}" for line in there if line not in here and not line.startswith("#")]
    (shown,) = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
    assert shown.splitlines() == [*gone, *added]
