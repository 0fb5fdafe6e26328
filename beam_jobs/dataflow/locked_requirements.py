"""What of the lock the package itself needs: the lock also has what is for development, which no worker wants."""

import ast
import atexit
import collections
import functools
import pathlib
import re
import shutil
import tempfile

_PINNED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==")
_NEEDED_BY = re.compile(r"\s+#(?: via)?\s+([A-Za-z0-9._-]+)(?: \(.+\))?\s*")


def runtime_lock(lock: str, setup: str) -> str:
    """Text of the lock's lines that the `install_requires` of setup.py reach; all of it where that is not spelled out.

    The lock says of each package which others it is there for.

    Args:
        lock: text of it, as `make lock` writes it.
        setup: text of setup.py.
    """
    required = _required(setup)
    if not required:
        return lock
    pins: dict[str, list[str]] = {}  # one lock is for several Pythons, which may have different versions
    needs: dict[str, set[str]] = collections.defaultdict(set)
    name = ""
    for line in lock.splitlines():
        if pinned := _PINNED.match(line):
            name = _canonical(pinned[1])
            pins.setdefault(name, []).append(line)
        elif name and (needed_by := _NEEDED_BY.fullmatch(line)):
            needs[_canonical(needed_by[1])].add(name)
    reached, waiting = set(), list(required)
    while waiting:
        if (found := waiting.pop()) not in reached:
            reached.add(found)
            waiting += needs[found]
    return "".join(f"{line}\n" for name, lines in pins.items() if name in reached for line in lines)


@functools.cache
def runtime_lock_file(setup_file: str, lock_file: str) -> str:
    """Path of a file with the `runtime_lock`, which is there until this process ends."""
    lock, setup = (pathlib.Path(path).read_text(encoding="utf-8") for path in (lock_file, setup_file))
    path = pathlib.Path(tempfile.mkdtemp(prefix="foretable-"), "requirements.txt")
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    path.write_text(runtime_lock(lock, setup), encoding="utf-8")
    return str(path)


def _required(setup: str) -> list[str]:
    """Canonical names of a literal `install_requires`."""
    for node in ast.walk(ast.parse(setup)):
        if isinstance(node, ast.keyword) and node.arg == "install_requires" and isinstance(node.value, ast.List):
            written = [str(item.value) for item in node.value.elts if isinstance(item, ast.Constant)]
            return [_canonical(re.split(r"[^A-Za-z0-9._-]", text)[0]) for text in written]
    return []


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
