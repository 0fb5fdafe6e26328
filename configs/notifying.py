"""Whom a night tells how it ended: commands that get the news on standard input, and webhooks that get it by POST."""

from typing import Annotated, Literal

import pydantic

from configs.base import Node, one_or_many

Event = Literal["published", "refused", "failed"]
EVENTS: tuple[Event, ...] = ("published", "refused", "failed")


class Notification(Node):
    """What every hook says.

    Attributes:
        on: the ends of a night it is told of; a night that was published but is older than the one readers see counts
            as published.
        timeout_seconds: after which the hook is given up.
    """

    on: Annotated[tuple[Event, ...], pydantic.BeforeValidator(one_or_many), pydantic.Field(min_length=1)] = EVENTS
    timeout_seconds: float = pydantic.Field(default=10, gt=0, le=600)


class CommandNotification(Notification):
    """Runs a command, without a shell, with the news as JSON on its standard input.

    Attributes:
        command: the program and its arguments.
    """

    kind: Literal["command"]
    command: Annotated[tuple[str, ...], pydantic.BeforeValidator(one_or_many), pydantic.Field(min_length=1)]


class WebhookNotification(Notification):
    """Posts the news as JSON.

    `${NAME}` in the URL and in headers stands for an environment variable: put in when the request is made, so that a
    secret stands in no file and no log.

    Attributes:
        url: the final address: a redirect is not followed, which could carry a secret elsewhere.
        headers: beside `Content-Type: application/json`.
    """

    kind: Literal["webhook"]
    url: str = pydantic.Field(pattern=r"^(https?://|\$\{\w+\})")
    headers: dict[str, str] = pydantic.Field(default_factory=dict)


AnyNotification = Annotated[CommandNotification | WebhookNotification, pydantic.Field(discriminator="kind")]
