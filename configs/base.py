"""What every node of the job file has in common: frozen, strict about names, and short to write."""

from typing import Any

import pydantic


class Node(pydantic.BaseModel):
    """A node of the job file: frozen, and an unknown key is an error rather than ignored."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def kind_shorthand(value: Any) -> Any:
    """Lets `z_score` stand for `{kind: z_score}`."""
    return {"kind": value} if isinstance(value, str) else value


def one_or_many(value: Any) -> Any:
    """Lets a single value stand for a list of one."""
    return value if isinstance(value, (list, tuple)) else (value,)
