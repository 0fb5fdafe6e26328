"""Functions of a team's own that a job file names as `package.module:function`."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from configs.errors import JobError


def load_function(reference: str, setting: str) -> Callable[..., Any]:
    """Imports the function that a job file names.

    Modules of the working directory are found too, whichever way the command was started.

    Args:
        reference: `package.module:function`.
        setting: the setting's dotted path, for the message.

    Raises:
        JobError: there is no such module or function, or the module cannot be imported.
    """
    module_name, _, function_name = reference.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise JobError(f"{setting}: {reference!r}: cannot import {module_name}: {reason}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise JobError(f"{setting}: {reference!r}: expected a function {function_name!r} in {module.__file__}")
    return function
