"""Reads a job file, applies `--set path=value` overrides, and says what is wrong in one line each."""

import difflib
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import pydantic
import yaml

from configs.errors import JobError
from configs.job import AnyJob, ForeignJob, Job, TrainedJob

_ANY_JOB: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(AnyJob)


class _Loader(yaml.SafeLoader):
    """Takes `on` and `off`, `yes` and `no` for the words that they are, as YAML 1.2 does: `on` is a setting's name."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the class that it is of
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def read_yaml(text: str) -> Any:
    """The tree that a job file's text says; raises what yaml raises."""
    return yaml.load(text, _Loader)


def load_job(path: str | pathlib.Path, overrides: Sequence[str] = ()) -> Job:
    """Reads the job file at `path`.

    Args:
        overrides: `dotted.path=value`, the value in YAML.

    Raises:
        JobError: the file cannot be read or is not a valid job; one problem a line.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise JobError(f"{path}: cannot read the job file: {reason}") from error
    try:
        tree = read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise JobError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(tree, dict):
        raise JobError(f"{path}: expected a mapping of job settings, got {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
    return parse_job(tree, where=str(path))


def parse_job(tree: dict[str, Any], where: str = "job") -> Job:
    """Validates a job given as plain values.

    Raises:
        JobError: one problem a line, each with its dotted path, value, and what was expected.
    """
    try:
        job: Job = _ANY_JOB.validate_python(tree)
    except pydantic.ValidationError as error:
        raise JobError(*(f"{where}: {_line(problem, tree)}" for problem in error.errors())) from error
    return job


def _apply(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise JobError(f"--set {override!r}: expected path=value, such as --set source.rows=1000")
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise JobError(f"--set {override!r}: the value is not valid YAML") from error
    *parents, last = path.split(".")
    node: Any = tree
    for depth, key in enumerate(parents):
        child = node[int(key)] if isinstance(node, list) and key.isdigit() and int(key) < len(node) else None
        if isinstance(node, dict):
            child = node.setdefault(key, {})
        if not isinstance(child, (dict, list)):
            raise JobError(f"--set {override!r}: {'.'.join(parents[: depth + 1])} is {child!r}, expected a mapping")
        node = child
    if isinstance(node, list):
        if not last.isdigit() or int(last) >= len(node):
            raise JobError(f"--set {override!r}: expected an index below {len(node)}, got {last!r}")
        node[int(last)] = value
    else:
        node[last] = value


def _line(problem: Any, tree: Any) -> str:
    path = _path_in_file(problem["loc"], tree)
    dotted = ".".join(map(str, path)) or "job"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        if _job_type(problem) is ForeignJob and len(path) == 1 and path[0] in TrainedJob.model_fields:
            return f"{dotted}: expected none beside model.saved_model, which is not trained here"
        known = _known_names(path[:-1], problem)
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}" if known else ""
        return f"{dotted}: unknown setting (value {problem['input']!r}){hint}"
    if problem["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"{dotted}: expected a mapping, got {problem['input']!r}"
    if problem["type"] == "missing":
        return f"{dotted}: required and not there"
    if problem["type"] == "union_tag_invalid":
        tags = [tag.strip().strip("'") for tag in problem["ctx"]["expected_tags"].split(",")]
        tag, *expected = (tag.partition(" ")[0] for tag in (problem["ctx"]["tag"], *tags))
        near = difflib.get_close_matches(tag, expected, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{dotted}: unknown kind {tag!r}, expected one of {', '.join(expected)}{hint}"
    if problem["type"] == "union_tag_not_found":
        return f"{dotted}: expected a mapping with `kind`, got {problem['input']!r}"
    value = "" if isinstance(problem["input"], dict) else f"{problem['input']!r}: "
    return f"{dotted}: {value}{message[0].lower()}{message[1:]}"


def _path_in_file(location: Sequence[str | int], tree: Any) -> list[str | int]:
    """Drops the tags of unions, which pydantic puts into the path and the file does not have.

    A tag is the node's `kind`, or has a space in it, which no setting's name has.
    """
    path: list[str | int] = []
    node = tree
    tagged: Any = None
    for key in location:
        if isinstance(key, str) and " " in key:
            continue
        if isinstance(node, dict) and node.get("kind") == key and node is not tagged:
            tagged = node  # a setting may be named like the kind: `{kind: command, command: …}`
            continue
        if isinstance(node, str):  # a shorthand such as `z_score`, whose only tag is itself
            break
        path.append(key)
        if isinstance(node, dict):
            node = node.get(key)
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
    return path


def _job_type(problem: Any) -> type[Job]:
    return ForeignJob if "foreign job" in problem["loc"][:1] else TrainedJob


def _known_names(path: Sequence[str | int], problem: Any) -> list[str]:
    """Names of the settings beside the unknown one, found by walking the model's fields along pydantic's own path."""
    location = list(problem["loc"])[:-1]
    nodes: list[Any] = [_job_type(problem)]
    for key in location:
        nodes = [child for node in nodes for child in _children(node, key)] or nodes
    names: dict[str, None] = {}
    for node in nodes:
        if isinstance(node, type) and issubclass(node, pydantic.BaseModel):
            names |= dict.fromkeys(node.model_fields)
    return list(names)


def _children(node: Any, key: str | int) -> list[Any]:
    if isinstance(node, type) and issubclass(node, pydantic.BaseModel) and key in node.model_fields:
        return _models_in(node.model_fields[str(key)].annotation)
    return []


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _models_in(argument)]
