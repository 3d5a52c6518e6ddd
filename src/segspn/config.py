"""Configurations as data: YAML mappings -> frozen dataclasses, names and types checked."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from segspn.errors import InputError

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?e[-+]?\d+", re.IGNORECASE)


def parse_mapping(text: str, where: str, what: str) -> dict[str, Any]:
    """The mapping in a YAML text; an empty text is an empty one.

    Raises InputError, naming ``where`` (a file) and ``what`` it is, for anything else.
    """
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(values, dict):
        raise InputError(f"{where}: {what} is a mapping of names to values")
    return values


def named_text(name: str, shipped: Any, what: str) -> tuple[str, str]:
    """Text and stem of a file by path (``.yaml``, ``.yml``), or of one shipped in the folder
    ``shipped`` as ``<name>.yaml``. Raises InputError that lists what there is."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{name}: no such {what} file")
        return path.read_text(encoding="utf-8"), path.stem
    known = names_in(shipped)
    if name not in known:
        raise InputError(f"unknown {what} {name!r}; choose one of {', '.join(known)}")
    return (shipped / f"{name}.yaml").read_text(encoding="utf-8"), name


def names_in(shipped: Any) -> list[str]:
    """Names of the YAML files in a package's folder, sorted."""
    return sorted(f.name[:-5] for f in shipped.iterdir() if f.name.endswith(".yaml"))


def build(
    kind: type, values: Mapping[str, Any], where: str, sections: Mapping[str, type] | None = None
) -> Any:
    """A dataclass from a mapping.

    Fields may be plain types, dataclasses (mappings), ``tuple[X, ...]`` (lists) and ``dict[str, X]``
    (mappings). ``sections``: types of fields that ``kind`` leaves open. Raises InputError, naming
    ``where`` and the field, for names that are unknown, values of another type, and what the dataclass
    itself refuses with a ValueError.
    """
    hints = {**typing.get_type_hints(kind), **(sections or {})}
    known = {f.name: f for f in dataclasses.fields(kind)}
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{where}: unknown value {key!r}; known: {', '.join(sorted(known))}")
        made[key] = _value(hints[key], value, where, str(key))
    for key, field in known.items():
        if key not in made and field.default is field.default_factory is dataclasses.MISSING:
            raise InputError(f"{where}: {key} is missing")
    try:
        return kind(**made)
    except ValueError as error:  # the dataclass's own checks
        raise InputError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise InputError(f"{where}: {key} must be a mapping")
        return build(typing.cast(type, hint), value, f"{where}: {key}")
    outer, inner = typing.get_origin(hint), typing.get_args(hint)
    if outer is tuple:
        if not isinstance(value, list):
            raise InputError(f"{where}: {key} must be a list")
        return tuple(_value(inner[0], v, where, f"{key}[{i}]") for i, v in enumerate(value))
    if outer is dict:
        if not isinstance(value, dict):
            raise InputError(f"{where}: {key} must be a mapping")
        return {str(k): _value(inner[1], v, where, f"{key}.{k}") for k, v in value.items()}
    if hint is str and value is None:  # what YAML makes of no value at all
        return ""
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)  # 4e-4 is a text in YAML 1.1, which wants 4.0e-4
    if isinstance(hint, type) and (
        not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    ):
        raise InputError(f"{where}: {key} must be {hint.__name__}, not {value!r}")
    return value


def with_settings(values: dict[str, Any], settings: typing.Iterable[str]) -> dict[str, Any]:
    """``values`` changed by settings ``path.to.key=value``; values are YAML, list items go by number.

    Raises InputError for a setting of another form or a path through something that is no mapping.
    """
    values = _copied(values)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise InputError(f"--set {setting}: write it as key=value, such as seed=1")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {setting}: the value is not valid YAML") from error
        *parents, last = path.split(".")
        at: Any = values
        for key in parents:
            at = _child(at, key, setting)
        if isinstance(at, list):
            _child(at, last, setting)
            at[int(last)] = value
        elif isinstance(at, dict):
            at[last] = value
        else:
            raise InputError(f"--set {setting}: {path} leads through a value that is no mapping")
    return values


def _copied(value: Any) -> Any:
    """A copy in which nothing is shared, as what YAML's anchors name is."""
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


def _child(at: Any, key: str, setting: str) -> Any:
    if isinstance(at, dict):
        return at.setdefault(key, {})
    if isinstance(at, list) and key.isdecimal() and int(key) < len(at):
        return at[int(key)]
    raise InputError(f"--set {setting}: there is no {key!r} there")
