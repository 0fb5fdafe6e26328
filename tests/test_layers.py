"""The house: imports point down only, and each outside library has its one room."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("configs", "transforms", "models", "beam_jobs")
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAY_IMPORT = {
    "configs": set(),
    "transforms": {"configs"},
    "models": {"configs"},
    "beam_jobs": {"configs", "transforms", "models"},
}


def imports_of(module):
    """Dotted names that the module imports, wherever in it, with the line of each."""
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def users_of(library):
    return {
        str(module)
        for module in MODULES
        for name, _ in imports_of(module)
        if name == library or name.startswith(f"{library}.")
    }


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_down_only(module):
    package = module.parts[0]
    for name, line in imports_of(module):
        imported = name.split(".")[0]
        if imported in PACKAGES:
            assert imported in MAY_IMPORT[package] | {package}, f"{module}:{line} imports {name}"


def test_stages_use_another_stage_for_its_marker_only():
    """A stage may name the stages before it; their work it meets on disk."""
    for module in MODULES:
        if module.parts[:2] == ("beam_jobs", "stages"):
            source = (ROOT / module).read_text(encoding="utf-8")
            others = {name.split(".")[2] for name, _ in imports_of(module) if name.startswith("beam_jobs.stages.")}
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in others:
                    assert node.attr == "STAGE", f"{module}:{node.lineno} uses {node.value.id}.{node.attr}"


def test_each_outside_library_has_its_room():
    assert users_of("duckdb") <= {"transforms/sql.py", *(str(m) for m in MODULES if "warehouses" in m.parts)}
    assert users_of("apache_beam") & {str(m) for m in MODULES if m.parts[0] == "models"} == set()
    assert users_of("keras") & {str(m) for m in MODULES if m.parts[0] != "models"} == set()
    assert not users_of("google.cloud.bigquery") - {str(m) for m in MODULES if "warehouses" in m.parts}
    assert users_of("google.cloud.storage") == {"beam_jobs/workspace/cloud_storage.py"}
    clients = users_of("google.cloud.aiplatform") | users_of("google.cloud.aiplatform_v1")
    assert not clients - {str(m) for m in MODULES if "vertex" in m.parts}


def test_modules_stay_readable():
    longest = max(MODULES, key=lambda module: len((ROOT / module).read_text(encoding="utf-8").splitlines()))
    lines = len((ROOT / longest).read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{longest} has {lines} lines: two things live in one room"
