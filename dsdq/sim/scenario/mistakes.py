"""What is wrong with a document, in one line: the field's path, what was expected, and what came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_LONGEST = 64
"""Characters of what came, or of a name, that a sentence shows."""

_KINDS = {
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing_size": "a whole number of at most 64 bits",
    "bool_type": "true or false",
    "string_type": "text",
    "string_unicode": "text of Unicode",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "tuple_type": "a list",
    "missing": "a value",
    "json_invalid": "a JSON object",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "text of at most {max_length} characters",
    "string_too_short": "text of at least {min_length} characters",
    "too_long": "at most {max_length} of them",
    "too_short": "at least {min_length} of them",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number >= {ge}",
    "less_than": "a number < {lt}",
    "less_than_equal": "a number <= {le}",
    "enum": "one of {expected}",
    "literal_error": "{expected}",
}


def told(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first of a document's mistakes in one line, and how many more there are."""
    first = error.errors(include_url=False)[0]
    more = error.error_count() - 1
    return _told(first, model) + (f" (and {more} more)" if more else "")


def _told(mistake: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = mistake["type"], mistake.get("ctx", {})
    where = [part for part in mistake["loc"] if part != "[key]"]
    if kind == "extra_forbidden":
        return f"{path(where)}: {unknown(str(where[-1]), _known(model, where[:-1]))}"
    if kind == "value_error":
        # A validator of several fields names the one that is wrong by its path from there.
        said = str(context["error"])
        before, colon, _ = said.partition(":")
        inner = colon and before.replace(".", "").replace("_", "").replace("-", "").isalnum()
        return f"{path(where)}{'.' if inner and where else ': ' if where else ''}{said}"
    expected = _KINDS.get(kind, mistake["msg"].lower()).format(**{key: _brief(one) for key, one in context.items()})
    came = "nothing" if kind == "missing" else shown(mistake["input"])
    return (f"{path(where)}: " if where else "") + f"expected {expected}, got {came}"


def unknown(name: str, known: Iterable[str]) -> str:
    """Say that a name is not one of the known ones, with the nearest of them if one is near, else with all."""
    names = list(known)
    near = get_close_matches(name[:_LONGEST], names, n=1)
    if near:
        return f"expected a name that is known here, got {shown(name)}; did you mean {near[0]}?"
    return f"expected one of {', '.join(names) or 'none'}, got {shown(name)}"


def path(parts: Sequence[str | int]) -> str:
    """Return the path of a field with dots, whatever is in the names."""
    return ".".join(plain(str(part)) or '""' for part in parts)


def plain(text: str, longest: int = _LONGEST) -> str:
    """Return a name as it can stand in one line of a terminal, and at most so many characters of it."""
    printable = text if text.isprintable() else ascii(text)[1:-1]
    return printable if len(printable) <= longest else printable[:longest] + "…"


def of_file(name: str | Path) -> str:
    """Return a file's name as it can stand in one line, long as it may be."""
    return plain(str(name), 1000)


def shown(value: object) -> str:
    """Return what came, short enough for a line."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _LONGEST else repr(value[:_LONGEST]) + "…"
    if isinstance(value, int) and value.bit_length() > _LONGEST:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    for kind, name in ((Mapping, "a table"), (list | tuple, "a list"), (NoneType, "nothing")):
        if isinstance(value, kind):
            return name
    return f"a {type(value).__name__}"


def _brief(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _known(model: type[BaseModel], where: Sequence[str | int]) -> Iterable[str]:
    """Return the names of the fields that a table may have."""
    here: Any = model
    for part in where:
        here = _within(here)(part)
    fields = _plain_type(here).model_fields
    return sorted(fields)


def _within(kind: Any) -> Callable[[str | int], Any]:  # noqa: ANN401 - an annotation
    """Return what gives the type of each part of a type: of a table's fields, of a dictionary's or list's items."""
    kind = _plain_type(kind)
    origin = get_origin(kind)
    if origin is dict:
        return lambda _key: get_args(kind)[1]
    if origin is tuple:
        return lambda _place: get_args(kind)[0]
    return lambda name: kind.model_fields[name].annotation


def _plain_type(kind: Any) -> Any:  # noqa: ANN401 - annotations
    """Return a type without its bounds, and without "or None"."""
    if get_origin(kind) is Annotated:
        return _plain_type(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        return next(_plain_type(one) for one in get_args(kind) if one is not NoneType)
    return kind
