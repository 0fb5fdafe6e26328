"""The project's container image, held against what is here: by its tag, which `make image` writes its versions into."""

import re
import sys
from collections.abc import Iterator

import beam_jobs
from beam_jobs.doctor.findings import Finding

_TAG = re.compile(r"(?P<version>[^-]+)-py(?P<python>3\.\d+)-beam(?P<beam>[\d.]+)")
_REGISTRY = re.compile(r"(?:[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z]+\.)?gcr\.io)/([^/]+)/")


def tag_findings(check: str, image: str) -> Iterator[Finding]:
    """Whether the image's tag says the same versions as are here."""
    import apache_beam

    python = ".".join(map(str, sys.version_info[:2]))
    here = {"version": beam_jobs.__version__, "python": python, "beam": apache_beam.__version__}
    tag = image.rpartition("/")[2].partition(":")[2].partition("@")[0]
    match = _TAG.fullmatch(tag)
    wanted = f"{here['version']}-py{here['python']}-beam{here['beam']}"
    if match is None:
        found = f"{image}: its tag does not say its versions"
        yield Finding(check, "warn", found, f"make image, which tags it {wanted}")
        return
    other = [f"{name} {there} (here: {here[name]})" for name, there in match.groupdict().items() if there != here[name]]
    if other:
        yield Finding(check, "fail", f"the image has another {', '.join(other)}", "make image from this checkout")
    else:
        yield Finding(check, "ok", f"image {tag}, as here")


def project_of(image: str) -> str | None:
    """The Google Cloud project that an image lies in; None where its address does not say."""
    match = _REGISTRY.match(image)
    return None if match is None else match[1]
