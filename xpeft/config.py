"""The config file: read, checked against its schema, completed with its defaults.

`workflow/schemas/config.schema.json` says all there is to say about a config: keys, types,
defaults, descriptions. From it come the check, the defaults and docs/configuration.md. What a
schema cannot say (an arm that contradicts itself) is checked by `xpeft.cells`.

The keywords of ours in the schema: `x-origin` (paper, derived, ours) of a setting,
`x-expected` (words for a pattern), `x-partial` (overrides of the section it names, so that
defaults are not filled in).
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from xpeft.errors import ConfigError

Config = dict[str, Any]
Schema = dict[str, Any]

DATA_VARIABLE = "XPEFT_DATA"
"""Environment variable that goes before `data.path`."""


def load_config(path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a config file and resolve it.

    Args:
        path: a YAML file.
        overrides: values to put over the file's, nested as in the file.

    Raises:
        ConfigError: the file is missing, is not YAML, or is no valid config.
    """
    value = read_yaml(path)
    if overrides:
        value = merge(value, overrides)
    return resolve_config(value, where=str(path))


def resolve_config(value: Mapping[str, Any], where: str = "config") -> Config:
    """Check a config and fill in the defaults.

    Args:
        value: what the YAML file holds; it is not changed.
        where: what an error calls it.

    Returns:
        A config in which every key of the schema is present, except in the overrides.

    Raises:
        ConfigError: one line that names the key, what was found and what was expected.
    """
    from jsonschema import Draft202012Validator

    plain = _read_numbers(schema(), _plain(value))
    errors = list(Draft202012Validator(schema()).iter_errors(plain))
    if errors:
        first = min(errors, key=lambda error: ([str(part) for part in error.absolute_path]))
        raise ConfigError(f"{where}: {_message(first)}")
    filled: Config = _fill(schema(), plain)
    if filled["data"]["source"] != "embedded":  # cohorts are local also beside tasks of the hub
        path = os.environ.get(DATA_VARIABLE) or filled["data"]["path"]
        # one spelling: it is a parameter of the workflow, which runs again what one has changed of
        filled["data"]["path"] = path and os.path.normpath(path)
    return filled


def read_yaml(path: str | os.PathLike[str]) -> Config:
    """Read a YAML file that holds a mapping; a key that stands twice is refused.

    Raises:
        ConfigError: the file is missing, not UTF-8, not YAML, or holds something else.
    """
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        """The safe loader, which alone would take the last of two equal keys."""

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # `<<: *base`, whose keys may be overridden
            key = loader.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"{path}: line {line}: the key {key!r} stands twice; remove one")
            seen.add(key)
        built: dict[Any, Any] = loader.construct_mapping(node, deep=True)
        return built

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        value = yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; the project's are in config/") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}: {place}expected YAML: {problem}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: found {_kind(value)}, expected a mapping with the key tier")
    return value


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Config:
    """`base` with `overrides` put over it, mapping by mapping; neither is changed."""
    merged = dict(base)
    for key, value in overrides.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


@cache
def schema() -> Schema:
    """The JSON schema of a config. Read only: it is shared."""
    text = resources.files("xpeft").joinpath("config.schema.json").read_text(encoding="utf-8")
    loaded: Schema = json.loads(text)
    return loaded


# ------------------------------------------------------------------------------ defaults


def _fill(node: Schema, value: Any) -> Any:
    """`value` with the defaults of `node`'s properties, recursively."""
    node = resolve(node)
    if isinstance(value, dict):
        if "x-partial" in node:
            return copy.deepcopy(value)
        properties: dict[str, Schema] = node.get("properties", {})
        other = node.get("additionalProperties")
        filled = {}
        for key, item in properties.items():
            found = value.get(key, copy.deepcopy(resolve(item).get("default")))
            filled[key] = _fill(item, found)
        for key, found in value.items():
            if key not in properties:
                filled[key] = _fill(other, found) if isinstance(other, dict) else found
        return filled
    return copy.deepcopy(value)


def _read_numbers(node: Schema, value: Any) -> Any:
    """`value` with text read as the number, truth value or null that the schema expects there.

    YAML takes 1e-3 for text, and Snakemake's `--config 'training={epochs: 3}'` gives texts only.
    """
    node = resolve(node)
    if isinstance(value, dict):
        below, other = node.get("properties", {}), node.get("additionalProperties")
        default = other if isinstance(other, dict) else {}
        return {key: _read_numbers(below.get(key, default), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_read_numbers(node.get("items", {}), item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # text, which is then refused
    types = node.get("type", [])
    if not isinstance(value, str) or not types:
        return value
    if "null" in types and value == "null":
        return None
    if "boolean" in types and value in ("true", "false"):
        return value == "true"
    for name, read in (("integer", int), ("number", float)):
        if name in types and "string" not in types:
            with suppress(ValueError):
                number = read(value)
                return number if math.isfinite(number) else value
    return value


def resolve(node: Schema) -> Schema:
    """A schema node with its `$ref` put in; the keys beside `$ref` go before those within."""
    if "$ref" not in node:
        return node
    name = node["$ref"].removeprefix("#/$defs/")
    return {**schema()["$defs"][name], **{key: v for key, v in node.items() if key != "$ref"}}


def _plain(value: Any) -> Any:
    """Mappings as dict with text keys, sequences as list: what JSON schema validates."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


# ------------------------------------------------------------------------------ messages

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def _message(error: Any) -> str:
    """One line for an error of jsonschema: key, found, expected."""
    key, found, limit = _key(error.absolute_path), error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            known = sorted(error.schema.get("properties", {}))
            name = sorted(set(found) - set(known))[0]
            hint = _hint(name, error.schema.get("properties", {}))
            return f"{_key([*error.absolute_path, name])}: unknown key; {hint}known: {_list(known)}"
        case "required":
            name = next(name for name in limit if name not in found)
            node = resolve(error.schema["properties"][name])
            text = node["description"].split(". ")[0].rstrip(".")
            return f"{_key([*error.absolute_path, name])}: found nothing, expected: {text}"
        case "type":
            types = [limit] if isinstance(limit, str) else limit
            expected = " or ".join(_TYPES[name] for name in types)
        case "enum":
            expected = f"one of {_list([_show(item) for item in limit])}"
        case "pattern":
            expected = error.schema.get("x-expected", f"text that matches {limit}")
        case "uniqueItems":
            expected = "no entry twice"
        case "minimum":
            expected = f"at least {limit}"
        case "maximum":
            expected = f"at most {limit}"
        case "exclusiveMinimum":
            expected = f"more than {limit}"
        case "exclusiveMaximum":
            expected = f"less than {limit}"
        case "minItems" | "minProperties":
            expected = f"at least {limit} {'entry' if limit == 1 else 'entries'}"
        case "minLength":
            expected = "text that is not empty"
        case _:
            expected = str(error.message).splitlines()[0]
    return f"{key}: found {_show(found)}, expected {expected}"


def _hint(name: str, properties: dict[str, Schema]) -> str:
    """Which known key was meant: one below which `name` is a key, or one spelled like it."""
    homes = [key for key, node in properties.items() if name in resolve(node).get("properties", {})]
    if homes:
        return f"did you mean {homes[-1]}.{name}? "
    near = difflib.get_close_matches(name, properties, n=1)
    return f"did you mean {near[0]}? " if near else ""


def _key(path: Any) -> str:
    """`arms.x_peft-soft.trials[0].lr` for a path of keys and positions."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "config"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return "a list" if isinstance(value, list) else type(value).__name__


def _show(value: Any) -> str:
    text = json.dumps(value, default=str) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _list(names: list[str]) -> str:
    return ", ".join(names)


# --------------------------------------------------------------------------- documentation


def documentation() -> str:
    """docs/configuration.md, from the schema."""
    lines = [
        "# Configuration",
        "",
        "<!-- Written by `xpeft config docs` from workflow/schemas/config.schema.json. -->",
        "",
        "A config is a YAML file; those in `config/` (quick, small, paper, people)",
        "are the project's. Snakemake takes one with `--configfile`, and single values with",
        "`--config`, as in `--config 'data={path: /data}' results=/scratch/results`. The verbs",
        "of `xpeft` take it with `--config FILE`.",
        "",
        "*Origin* says where a setting comes from: `paper` (stated in arXiv 2401.16137),",
        "`derived` (follows from a figure that the paper states), `ours` (the paper is silent).",
        "",
    ]
    for title, node in _sections():
        lines += [f"## {title}", ""]
        if node.get("description"):
            lines += [node["description"], ""]
        lines += ["| key | value | default | origin | meaning |", "| --- | --- | --- | --- | --- |"]
        required = node.get("required", [])
        for key, item in node["properties"].items():
            item = resolve(item)
            default = "required" if key in required else f"`{json.dumps(item.get('default'))}`"
            cells = [f"`{key}`", _values(item), default, item.get("x-origin", "")]
            lines.append(f"| {' | '.join([*cells, _escape(item['description'])])} |")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _sections() -> Iterator[tuple[str, Schema]]:
    """The mappings with keys of their own: title and node, the whole config first."""
    yield "Top level", schema()

    def below(node: Schema, prefix: str) -> Iterator[tuple[str, Schema]]:
        for key, item in node["properties"].items():
            item, name = resolve(item), f"{prefix}{key}"
            if "x-partial" in item:
                continue
            if "properties" in item:
                yield f"`{name}`", item
                yield from below(item, f"{name}.")
            other = item.get("additionalProperties")
            if isinstance(other, dict) and "properties" in other and "x-partial" not in other:
                yield f"`{name}.<name>`", other
                yield from below(other, f"{name}.<name>.")

    yield from below(schema(), "")


def _values(node: Schema) -> str:
    """What a key may hold, in words."""
    if "x-partial" in node:
        return f"keys of `{node['x-partial']}`"
    if "enum" in node:
        return ", ".join(f"`{_plain_value(item)}`" for item in node["enum"])
    types = node["type"] if isinstance(node["type"], list) else [node["type"]]
    words = " or ".join(_TYPES[name] for name in types)
    limits = [
        text.format(_plain_value(node[name]))
        for name, text in (
            ("minimum", ">= {}"),
            ("exclusiveMinimum", "> {}"),
            ("maximum", "<= {}"),
            ("exclusiveMaximum", "< {}"),
        )
        if name in node
    ]
    return ", ".join([words, *limits])


def _plain_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
