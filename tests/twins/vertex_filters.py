"""Lists of resources: Google's filter expressions, read masks aside, order and pages.

https://google.aip.dev/160: `OR` binds before `AND`, terms beside each other are an `AND`. What a resource supports is in
its list request's comment; another field is refused, as the service does.
"""

import datetime
import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import Any

from twins.vertex_wire import Call, RefusalError

TOKEN = re.compile(r"""\s*(?:("(?:[^"\\]|\\.)*")|(<=|>=|!=|=|<|>|:)|([()])|(-(?=\S))|([^\s()"=<>!:]+))""")
LONGEST_PAGE = 100
Test = Callable[[Any], bool]


class Filter:
    """A filter expression, read.

    Attributes:
        matches: whether a resource is wanted.
    """

    def __init__(self, text: str, fields: Sequence[str]):
        self._text, self._fields = text, fields
        self._tokens = self._read()
        self.matches: Test = self._all_of() if self._tokens else lambda resource: True
        if self._tokens:
            raise self._wrong()

    def _wrong(self, why: str = "") -> RefusalError:
        return RefusalError("INVALID_ARGUMENT", f"Invalid filter {self._text!r}{why and ': '}{why}.")

    def _read(self) -> list[str]:
        tokens, at, text = [], 0, self._text.strip()
        while at < len(text):
            match = TOKEN.match(text, at)
            if match is None:
                raise self._wrong(f"cannot read {text[at:]!r}")
            tokens.append(match[0].strip())
            at = match.end()
        return tokens

    def _all_of(self) -> Test:
        tests = [self._one_of()]
        while self._tokens and self._tokens[0] != ")":
            if self._tokens[0] == "AND":
                self._tokens.pop(0)
            tests.append(self._one_of())
        return lambda resource: all(test(resource) for test in tests)

    def _one_of(self) -> Test:
        tests = [self._term()]
        while self._tokens and self._tokens[0] == "OR":
            self._tokens.pop(0)
            tests.append(self._term())
        return lambda resource: any(test(resource) for test in tests)

    def _term(self) -> Test:
        if not self._tokens:
            raise self._wrong("it ends too early")
        token = self._tokens.pop(0)
        if token in ("NOT", "-"):
            test = self._term()
            return lambda resource: not test(resource)
        if token == "(":
            test = self._all_of()
            if not self._tokens or self._tokens.pop(0) != ")":
                raise self._wrong("a parenthesis is not closed")
            return test
        if len(self._tokens) < 2:
            raise self._wrong("expected a comparison")
        name, comparison, value = token, self._tokens.pop(0), self._tokens.pop(0)
        if name.endswith(".") and comparison.startswith('"'):  # labels."a key"=value
            name, comparison, value = name + _bare(comparison), value, self._tokens.pop(0)
        return self._comparison(name, comparison, _bare(value))

    def _comparison(self, name: str, comparison: str, value: str) -> Test:
        field, _, key = name.partition(".")
        field = re.sub("([A-Z])", r"_\1", field).lower()
        if field not in self._fields:
            raise self._wrong(f"field {field!r} is not supported")
        if field == "labels":
            if not key:
                return lambda resource: value in resource.labels
            if comparison == ":" and value == "*":
                return lambda resource: key in resource.labels
            if comparison == "!=":
                return lambda resource: resource.labels.get(key) != value
            return lambda resource: resource.labels.get(key) == value
        if comparison == ":":
            return lambda resource: fnmatch.fnmatchcase(_text(resource, field), value)
        if field.endswith("_time"):
            wanted = datetime.datetime.fromisoformat(value)
            return lambda resource: _ordered(comparison, getattr(resource, field), wanted)
        if comparison not in ("=", "!="):
            raise self._wrong(f"{field} does not support {comparison}")
        return lambda resource: (_text(resource, field) == value) == (comparison == "=")


def _bare(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _text(resource: Any, field: str) -> str:
    if field in ("model", "endpoint"):  # the last part of its name
        return resource.name.rpartition("/")[2].partition("@")[0]
    value = getattr(resource, field)
    return value.name if hasattr(value, "name") else str(value)


def _ordered(comparison: str, found: Any, wanted: Any) -> bool:
    outcomes = {"<": found < wanted, "<=": found <= wanted, ">": found > wanted, ">=": found >= wanted}
    return outcomes.get(comparison, (found == wanted) == (comparison != "!="))


def page_of(call: Call, resources: Sequence[Any], fields: Sequence[str], longest: int = LONGEST_PAGE) -> tuple:
    """Resources of the page that the call asks for, and the token of the next one.

    Args:
        resources: in the order that they are listed in.
        fields: that a filter may name.
        longest: resources on a page, however many the call asks for.
    """
    wanted = Filter(call.parameter("filter"), fields)
    found = [resource for resource in resources if wanted.matches(resource)]
    for part in reversed([part.split() for part in call.parameter("orderBy").split(",") if part.strip()]):
        name = re.sub("([A-Z])", r"_\1", part[0]).lower()
        if name not in ("display_name", "create_time", "update_time") or part[1:] not in ([], ["asc"], ["desc"]):
            raise RefusalError("INVALID_ARGUMENT", f"Invalid order_by {' '.join(part)!r}.")
        found.sort(key=lambda resource, name=name: getattr(resource, name), reverse=part[1:] == ["desc"])
    token = call.parameter("pageToken")
    if token and not token.isdigit():
        raise RefusalError("INVALID_ARGUMENT", "The page token is invalid.")
    start = int(token or 0)
    stop = start + min(int(call.parameter("pageSize") or 0) or longest, longest)
    return found[start:stop], str(stop) if stop < len(found) else ""
