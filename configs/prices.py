"""A table of list prices: what `foretable run --dry-run` reckons with."""

import datetime
import pathlib
from typing import Annotated

import pydantic
import yaml

from configs.base import Node
from configs.errors import JobError

Price = Annotated[float, pydantic.Field(ge=0)]


class Listed(Node):
    """Prices of one service.

    Attributes:
        as_of: when they were looked up.
        page: public page that lists them.
    """

    as_of: datetime.date
    page: str = pydantic.Field(pattern=r"^https://")


class DataflowPrices(Listed):
    """Of batch workers, and of what they shuffle."""

    vcpu_hour: Price
    memory_gb_hour: Price
    disk_gb_hour: Price
    shuffled_gb: Price


class BigQueryPrices(Listed):
    """Of queries on demand, of reading by the Storage Read API, and of tables by their logical size."""

    queried_tib: Price
    read_tib: Price
    stored_gib_month: Price


class StoragePrices(Listed):
    """Of standard storage in a region."""

    stored_gb_month: Price
    thousand_writes: Price
    thousand_reads: Price


class MachinePrices(Node):
    """Of a machine, by its size."""

    vcpu_hour: Price
    memory_gb_hour: Price


class VertexPrices(Listed):
    """Of the machines of custom training and of prediction, which are billed alike.

    Attributes:
        machines: by series, such as `n1`.
        accelerators: an hour of each, by the name that Vertex has for it.
    """

    machines: dict[str, MachinePrices]
    accelerators: dict[str, Price] = pydantic.Field(default_factory=dict)


class Prices(Node):
    """List prices, before discounts, free amounts and taxes.

    Attributes:
        region: that they are of; other regions differ, most by less than a half.
        vertex: None in a table of before there was any.
    """

    currency: str
    region: str
    dataflow: DataflowPrices
    bigquery: BigQueryPrices
    storage: StoragePrices
    vertex: VertexPrices | None = None


def load_prices(path: str | pathlib.Path) -> Prices:
    """Reads a price table.

    Raises:
        JobError: it is not there, or not one.
    """
    try:
        return Prices.model_validate(yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise JobError(f"prices: {str(path)!r}: {(error.strerror or '').lower()}; expected a price table") from error
    except (yaml.YAMLError, pydantic.ValidationError) as error:
        problem = str(error).splitlines()
        raise JobError(f"prices: {path}: not a price table: {' '.join(problem[:3])}") from error
