"""Views that are replaced in one step, and by one at a time.

Each version of a view carries a token. Whoever replaces it runs the statement as a job whose id follows from the token
that it has read. BigQuery runs an id once, so of two who have read the same version only one replaces it; the other
finds the job there, and has to look again. That is a compare-and-swap, without a lock that a killed process could hold.
"""

import dataclasses
import uuid

from beam_jobs.warehouses.base import Column
from beam_jobs.warehouses.bigquery.dataset import Dataset
from beam_jobs.warehouses.bigquery.sql import create_view, shown_table
from beam_jobs.workspace import storage
from configs.errors import RefusedError

TOKEN_LABEL = "foretable_version"
CONTENT_LABEL = "foretable_content"
_NO_VIEW = "none"


@dataclasses.dataclass(frozen=True)
class View:
    """A view as it was read.

    Attributes:
        token: of its version.
        content: digest of what it selects, of its columns and its description; None where there is no view.
        table: that it selects from, if it is one night's.
    """

    name: str
    token: str = _NO_VIEW
    content: str | None = None
    table: str | None = None


@dataclasses.dataclass(frozen=True)
class Definition:
    """What a view is to be."""

    select: str
    columns: tuple[Column, ...]
    description: str
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def content(self) -> str:
        """Digest of it all."""
        columns = [(column.name, column.description) for column in self.columns]
        return storage.digest_of([self.select, columns, self.description, list(self.labels)])[:16]


def read_view(dataset: Dataset, name: str) -> View:
    """The view, or one without content where there is none.

    Raises:
        RefusedError: what is there under its name is somebody else's.
    """
    found = dataset.table(name)
    if found is None:
        return View(name)
    if found.table_type != "VIEW" or TOKEN_LABEL not in found.labels:
        raise RefusedError(
            f"{dataset.path(name)} is there and is no view of foretable's; rename it, or set another warehouse.dataset"
        )
    return View(name, found.labels[TOKEN_LABEL], found.labels.get(CONTENT_LABEL), shown_table(found.view_query))


def replace_view(dataset: Dataset, before: View, definition: Definition) -> bool:
    """Replaces the view that was read as `before`; returns whether this call did, and nobody else before it."""
    own = {TOKEN_LABEL: uuid.uuid4().hex[:16], CONTENT_LABEL: definition.content}
    labels = dataset.labels | dict(definition.labels) | own
    statement = create_view(
        dataset.path(before.name), definition.select, definition.columns, definition.description, labels
    )
    place = storage.digest_of([dataset.name, before.name, before.token])[:20]
    _, is_mine = dataset.run_once(
        f"foretable_{place}_switch",
        dataset.start_statement(statement),
        # The view may have been dropped since a job of this id: then it is no version of what is there now.
        counts=lambda job: read_view(dataset, before.name).token != before.token,
    )
    return is_mine
