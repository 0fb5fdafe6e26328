"""What Google's clients raise of a fault that may well pass by itself: too many calls, a server's trouble, silence."""

import requests.exceptions
from google.api_core import exceptions

PASSING_FAULTS: tuple[type[Exception], ...] = (
    exceptions.TooManyRequests,
    exceptions.InternalServerError,
    exceptions.BadGateway,
    exceptions.ServiceUnavailable,
    exceptions.GatewayTimeout,
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
