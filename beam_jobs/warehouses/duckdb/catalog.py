"""The DuckDB catalog file: rebuilt whole beside the old one, and shown to readers by one rename.

The path that readers open is a symbolic link to the newest version in `<path>.versions/`, where each version is a
DuckDB file and the JSON it was built from. DuckDB follows the link before it locks or writes anything, so an analyst's
open connection keeps its version, with its lock and its write-ahead log, and nothing of ours ever waits for it.
(A rename over the file itself is not enough: the old connection's log would lie beside the new file, which DuckDB then
refuses to open. Seen with 2.0.)
"""

import contextlib
import dataclasses
import datetime
import fcntl
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import duckdb

from beam_jobs.warehouses.base import NightRecord
from beam_jobs.warehouses.duckdb.views import create_views
from beam_jobs.workspace import storage
from beam_jobs.workspace.locking import locked
from configs.errors import ForetableError, RefusedError

FORMAT = 1
# No extension is downloaded behind anybody's back; behind a proxy that stalls, that would hang.
CONNECTION_CONFIG = {"autoinstall_known_extensions": "false"}


@dataclasses.dataclass(frozen=True)
class Shard:
    """One Parquet file of a night's table.

    Attributes:
        path: absolute.
        first_block: of the space, from 0.
        blocks: of the space in it.
    """

    path: str
    first_block: int
    blocks: int


@dataclasses.dataclass(frozen=True)
class CatalogNight:
    """A night on record, with its files.

    Attributes:
        shards: in the order of the space; none once an expired night's files are deleted.
        block_rows: points in a block.
    """

    record: NightRecord
    shards: tuple[Shard, ...]
    block_rows: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return dataclasses.asdict(self) | {"record": self.record.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CatalogNight":
        """The night that `to_json` gave."""
        shards = tuple(Shard(**shard) for shard in values["shards"])
        return cls(NightRecord.from_json(values["record"]), shards, values["block_rows"])


Nights = tuple[CatalogNight, ...]


@dataclasses.dataclass(frozen=True)
class Catalog:
    """A catalog file, of one job or of several.

    Attributes:
        path: that readers open.
    """

    path: pathlib.Path

    @property
    def versions(self) -> pathlib.Path:
        """The folder of its versions."""
        return self.path.with_name(f"{self.path.name}.versions")

    def read(self) -> Nights:
        """Every night on record; one whose files are gone is `lost`.

        Raises:
            RefusedError: what lies at the path is no catalog of Foretable's, or another version's.
        """
        for _ in range(3):  # a version may be removed between the look at the link and the read
            with contextlib.suppress(FileNotFoundError):
                return self._read(self._number())
        raise ForetableError(f"{self.path}: its version in {self.versions} is not there; restore that folder")

    def change(self, edit: Callable[[Nights], Nights]) -> Nights:
        """Applies `edit` to the nights and shows readers the result in one step; returns it.

        Killed at any moment, readers see the nights from before or after, and another try starts from what they see.
        No change, no new version. Jobs that share a catalog take turns.

        Raises:
            RefusedError: what lies at the path is no catalog of Foretable's.
            ForetableError: the folder cannot be written, or the disk is full.
        """
        with locked(str(self.versions / "lock"), str(self.path), wait=True):
            nights = self.read()
            number = self._number()
            edited = tuple(sorted(edit(nights), key=_order))
            if edited != nights:
                try:
                    self._write(number + 1, edited)
                except (OSError, duckdb.Error) as error:
                    raise ForetableError(f"{self.path}: cannot write the catalog: {_line(error)}") from error
                self._remove_versions_before(number)
            return edited

    def _number(self) -> int:
        """Number of the version that readers see; 0 before the first."""
        if not os.path.lexists(self.path):
            return 0
        if self.path.is_symlink():
            target = pathlib.Path(os.readlink(self.path))
            if target.parent.name == self.versions.name and target.stem.isdigit():
                return int(target.stem)
        raise RefusedError(
            f"{self.path} is there and is no catalog of foretable's; move it, or set warehouse.path to another file"
        )

    def _read(self, number: int) -> Nights:
        if not number:
            return ()
        tree = storage.read_json(str(self._version(number, "json")))
        if tree.get("format") != FORMAT:
            raise RefusedError(
                f"{self.path}: format {tree.get('format')!r}, this version of foretable reads {FORMAT}; "
                "use the version that wrote it, or set warehouse.path to another file"
            )
        return tuple(_without_lost_files(CatalogNight.from_json(night)) for night in tree["nights"])

    def _write(self, number: int, nights: Nights) -> None:
        tree = {"format": FORMAT, "nights": [night.to_json() for night in nights]}
        storage.write_json(str(self._version(number, "json")), tree)
        building = self._version(number, "building")
        for leftover in (building, building.with_name(f"{building.name}.wal")):
            leftover.unlink(missing_ok=True)
        with duckdb.connect(str(building), config=CONNECTION_CONFIG) as connection:
            create_nights(connection, nights)
        version = self._version(number, "duckdb")
        building.replace(version)
        link = self.path.with_name(f"{self.path.name}.switching")
        link.unlink(missing_ok=True)
        link.symlink_to(pathlib.Path(self.versions.name, version.name))
        link.replace(self.path)
        _flush_folder(self.path.parent)

    def _version(self, number: int, suffix: str) -> pathlib.Path:
        return self.versions / f"{number:08d}.{suffix}"

    def _remove_versions_before(self, number: int) -> None:
        # `number` itself stays, for a reader that has just followed the link; so does one that a connection holds.
        for version in self.versions.glob("*.duckdb"):
            if int(version.stem) < number and not _is_open(version):
                for suffix in (".duckdb", ".duckdb.wal", ".json"):
                    version.with_suffix(suffix).unlink(missing_ok=True)


def create_nights(connection: duckdb.DuckDBPyConnection, nights: Nights) -> None:
    """Makes the views and tables of these nights."""
    create_views(connection, [(night.record, tuple(shard.path for shard in night.shards)) for night in nights])


@contextlib.contextmanager
def private_connection(nights: Nights) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a catalog in memory, as readers would see these nights; takes no lock and waits for none."""
    with connect_in_memory() as connection:
        create_nights(connection, nights)
        yield connection


def connect_in_memory() -> duckdb.DuckDBPyConnection:
    """A connection to an empty database of its own."""
    # By default DuckDB would spill into a folder of wherever the command runs.
    return duckdb.connect(":memory:", config=CONNECTION_CONFIG | {"temp_directory": tempfile.gettempdir()})


def _order(night: CatalogNight) -> tuple[str, datetime.date, str]:
    return night.record.job, night.record.run_date, night.record.run_id


def _without_lost_files(night: CatalogNight) -> CatalogNight:
    """The night, marked lost where its files are gone: one job's lost files must not stop another's publishing."""
    if night.record.status in ("current", "kept") and not all(os.path.exists(shard.path) for shard in night.shards):
        return dataclasses.replace(night, record=dataclasses.replace(night.record, status="lost"))
    return night


def _is_open(path: pathlib.Path) -> bool:
    """Whether some process's DuckDB holds its lock on the file."""
    try:
        with open(path, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _flush_folder(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
