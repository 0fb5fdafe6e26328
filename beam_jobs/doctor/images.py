"""The project's container image, held against what is here: by its tag, in which `make image` says what it has.

Workers find the code of a step by its name, in the image. So the tag has a digest of the code and of the lock, beside
the versions that a person wants to see.
"""

import hashlib
import pathlib
import re
import sys
from collections.abc import Iterator

import beam_jobs
from beam_jobs.doctor.findings import Finding

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGES = ("configs", "transforms", "models", "beam_jobs")
_TAG = re.compile(r"(?P<version>[^-]+)-py(?P<python>3\.\d+)-beam(?P<beam>[\d.]+)(?:-(?P<code>[0-9a-f]{12}))?")
_REGISTRY = re.compile(r"(?:[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z]+\.)?gcr\.io)/([^/]+)/")


def image_tag(python: str, beam: str, root: pathlib.Path = ROOT) -> str:
    """Tag of the image that is made of the checkout at `root`.

    Args:
        python: of the image, such as `3.11`.
        beam: its version.
    """
    return f"{beam_jobs.__version__}-py{python}-beam{beam}-{code_digest(root)}"


def code_digest(root: pathlib.Path = ROOT) -> str:
    """Twelve hex digits of the checkout's code and lock; job files, which the packages have too, are none of it.

    Raises:
        FileNotFoundError: there is no lock: the package was installed away from its checkout.
    """
    paths = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    content = hashlib.sha256()
    for path in sorted([root / "requirements.lock", *paths]):
        content.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()[:12]


def tag_findings(check: str, image: str) -> Iterator[Finding]:
    """Whether the image's tag says the same versions and the same code as are here."""
    import apache_beam

    python = ".".join(map(str, sys.version_info[:2]))
    try:
        wanted = image_tag(python, apache_beam.__version__)
    except FileNotFoundError:
        yield Finding(check, "warn", f"no requirements.lock beside the package to compare {image} with")
        return
    tag = image.rpartition("/")[2].partition(":")[2].partition("@")[0]
    here, there = _parts(wanted), _parts(tag)
    other = [f"{name} {said} (here: {here[name]})" for name, said in there.items() if said != here[name]]
    if not other and tag != wanted:
        what = "which code it has" if there else "its versions"
        yield Finding(check, "warn", f"{image}: its tag does not say {what}", f"make image, which tags it {wanted}")
    elif other:
        yield Finding(check, "fail", f"the image has another {', '.join(other)}", "make image from this checkout")
    else:
        yield Finding(check, "ok", f"image {tag}, as here")


def _parts(tag: str) -> dict[str, str]:
    """What a tag says, by name."""
    match = _TAG.fullmatch(tag)
    return {name: said for name, said in match.groupdict().items() if said} if match is not None else {}


def project_of(image: str) -> str | None:
    """The Google Cloud project that an image lies in; None where its address does not say."""
    match = _REGISTRY.match(image)
    return None if match is None else match[1]


if __name__ == "__main__":
    print(image_tag(python=sys.argv[1], beam=sys.argv[2]))
