"""Of the lock, workers get what the package needs, and nothing that is there for development."""

import importlib.metadata
import re

from conftest import ROOT
from packaging.requirements import Requirement

from beam_jobs.dataflow.locked_requirements import runtime_lock

LOCK = """\
annotated==1.0
    # via
    #   Pydantic_core
    #   tests-only
numpy==1.0 ; python_full_version < '3.12'
    # via foretable (setup.py)
numpy==2.0 ; python_full_version >= '3.12'
    # via
    #   foretable (setup.py)
    #   tests-only
pydantic==3.0
    # via foretable (setup.py)
pydantic-core[fast]==3.1
    # via pydantic
tests-only==4.0
    # via foretable (setup.py)
tests-only-too==4.1
    # via tests-only
"""
SETUP = "setup(install_requires=['numpy>=1,<3', 'pydantic[email]>=3'], extras_require={'dev': ['tests-only']})"


def test_what_the_package_needs_and_what_that_needs():
    assert runtime_lock(LOCK, SETUP).splitlines() == [
        "annotated==1.0",
        "numpy==1.0 ; python_full_version < '3.12'",
        "numpy==2.0 ; python_full_version >= '3.12'",
        "pydantic==3.0",
        "pydantic-core[fast]==3.1",
    ]


def test_all_of_it_where_nobody_says_what_is_needed():
    assert runtime_lock(LOCK, "setup()") == LOCK


def test_ours_has_what_the_installed_packages_say_they_need():
    """The packages' own metadata are another way to the same names, as far as they are for this Python."""
    lock, setup = ((ROOT / name).read_text(encoding="utf-8") for name in ("requirements.lock", "setup.py"))
    locked = {line.partition("==")[0] for line in runtime_lock(lock, setup).splitlines()}
    assert locked.isdisjoint({"mypy", "playwright", "pytest", "ruff", "uv", "hypothesis"})
    needed, waiting = set(), re.findall(r'"(.+)",', setup.partition("install_requires=[")[2].partition("]," + "\n")[0])
    while waiting:
        requirement = Requirement(waiting.pop())
        for extra in ("", *requirement.extras):
            found = (re.sub(r"[-_.]+", "-", requirement.name).lower(), extra)
            if found not in needed:
                needed.add(found)
                asked = map(Requirement, importlib.metadata.requires(found[0]) or ())
                waiting += [str(one) for one in asked if one.marker is None or one.marker.evaluate({"extra": extra})]
    names = {name for name, _ in needed}
    assert names <= locked
    installed = {re.sub(r"[-_.]+", "-", found.name).lower() for found in importlib.metadata.distributions()}
    assert locked & installed <= names
