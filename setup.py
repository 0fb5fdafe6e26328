"""Package of Foretable; Dataflow's `--setup_file` and `pip install -e .` both use it."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "beam_jobs/__init__.py").read_text()).group(1)

setuptools.setup(
    name="foretable",
    version=VERSION,
    description="Every prediction, computed before it is asked for: static serving on Beam, TensorFlow and BigQuery",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=setuptools.find_packages(include=["configs*", "transforms*", "models*", "beam_jobs*"]),
    package_data={
        "configs": ["*.sql", "*.yaml"],
        "beam_jobs": ["*.json", "*.yaml"],
        "beam_jobs.report": ["templates/*"],
    },
    install_requires=[
        "apache-beam[gcp]>=2.77,<2.78",
        "tensorflow>=2.21,<2.22",
        "tensorflow-transform>=1.21,<1.22",
        "tensorflow-metadata>=1.21,<1.22",
        "tfx-bsl>=1.21,<1.22",
        "keras>=3.15,<4",
        "google-cloud-aiplatform>=1.165,<2",
        "google-cloud-bigquery>=3.47,<4",
        "google-cloud-bigquery-storage>=2.43,<3",
        "google-cloud-storage>=3,<4",
        "duckdb>=2,<3",
        "Jinja2>=3.1,<4",
        "matplotlib>=3.10,<4",
        "numpy>=2,<3",
        "pyarrow>=20,<26",
        "pydantic>=2.12,<3",
        "PyYAML>=6,<7",
        "requests>=2.32,<3",
        "rich>=14",
        "typer>=0.20,<1",
    ],
    extras_require={
        # Peers of the scoring benchmark.
        "bench": ["ray[data]>=2.50,<3"],
        "dev": [
            "hypothesis>=6.140,<7",
            "mypy>=1.18",
            "playwright>=1.50",
            "pytest>=8.4",
            "pytest-timeout>=2.4,<3",
            "pytest-xdist>=3.8,<4",
            "ruff>=0.14",
            "types-PyYAML",
            "uv",
        ],
    },
    entry_points={"console_scripts": ["foretable=beam_jobs.cli:main"]},
)
