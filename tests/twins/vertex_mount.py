"""Cloud Storage as the Vertex twin's custom jobs see it: a folder that is filled before, and uploaded from meanwhile.

A file is uploaded when it has not changed for a moment, in the order of the files' last changes, and what was removed
is removed there before. Each machine starts from what lies in the bucket, so of a job that is killed only that is left.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterable
from typing import Any

PLACE = re.compile(r"(?:gs://|/gcs/|(?<=[\s\"'/]))([a-z0-9][-_.a-z0-9]+)/([^/\s\"']+)")
Stamp = tuple[int, int]


def named_places(texts: Iterable[str], buckets: Iterable[str]) -> set[tuple[str, str]]:
    """Buckets with the first folders in them that texts name."""
    known, places = set(buckets), set()
    for text in texts:
        for match in PLACE.finditer(f" {text}"):
            if match[1] in known:
                places.add((match[1], match[2]))
    return places


@dataclasses.dataclass
class Mount:
    """A mount.

    Attributes:
        folder: that has the buckets as its folders.
        client: of Cloud Storage.
        places: buckets and first folders in them; others look empty.
        uploaded: files as they lie in the bucket.
    """

    folder: pathlib.Path
    client: Any
    places: set[tuple[str, str]]
    uploaded: dict[pathlib.Path, Stamp] = dataclasses.field(default_factory=dict)
    _seen: dict[pathlib.Path, Stamp] = dataclasses.field(default_factory=dict)

    def fill(self) -> None:
        """Downloads what is there."""
        for bucket, first in sorted(self.places):
            (self.folder / bucket).mkdir(parents=True, exist_ok=True)
            for blob in self.client.list_blobs(bucket, prefix=first):
                if blob.name.endswith("/") or blob.name.partition("/")[0] != first:
                    continue
                path = self.folder / bucket / blob.name
                path.parent.mkdir(parents=True, exist_ok=True)
                blob.download_to_filename(str(path))
                self.uploaded[path] = _stamp(path)

    def upload(self, is_last: bool = False) -> None:
        """Uploads what has changed, once it has ceased to; `is_last`: even so."""
        present = self._files()
        for path in set(self.uploaded) - set(present):
            bucket, name = self._object(path)
            self.client.bucket(bucket).blob(name).delete()
            del self.uploaded[path]
        changed = [path for path, stamp in present.items() if self.uploaded.get(path) != stamp]
        for path in sorted(changed, key=lambda path: present[path][0]):
            if is_last or self._seen.get(path) == present[path]:
                bucket, name = self._object(path)
                try:
                    content = path.read_bytes()
                except FileNotFoundError:
                    continue  # removed since
                self.client.bucket(bucket).blob(name).upload_from_string(content, "application/octet-stream")
                self.uploaded[path] = present[path]
        self._seen = present

    def written(self, uri: str, pattern: str) -> set[str]:
        """Names of files below a `gs://` folder that match a pattern, in the bucket already or not."""
        folder = self.folder / uri.removeprefix("gs://")
        return {path.relative_to(folder).as_posix() for path in folder.glob(pattern)}

    def _files(self) -> dict[pathlib.Path, Stamp]:
        found = {}
        for path in self.folder.rglob("*"):
            try:
                if path.is_file():
                    found[path] = _stamp(path)
            except FileNotFoundError:
                pass  # removed since
        return found

    def _object(self, path: pathlib.Path) -> tuple[str, str]:
        bucket, *parts = path.relative_to(self.folder).parts
        return bucket, "/".join(parts)


def _stamp(path: pathlib.Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
