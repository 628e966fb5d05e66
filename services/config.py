"""Configuration files: YAML in, a checked model out; an unknown key is an error that names the nearest valid one."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from services.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without repeated keys, which YAML forbids and PyYAML silently overwrites."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Parse a YAML file.

    Raises:
        ConfigError: the file is absent or not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - derives from SafeLoader
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file {path}", fix="check the path, or make one with the `init` command"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path} is not valid YAML: {error}", fix="mind the indentation and quote odd values"
        ) from error


def read_config(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into its model.

    Raises:
        ConfigError: every problem, a line each, with the key's full path.
    """
    return check_config(read_yaml(path), model, str(path))


def check_config(value: Any, model: type[Model], where: str) -> Model:
    """Check an already parsed document against its model.

    Raises:
        ConfigError: as `read_config`.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a mapping of keys to values")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [_describe(item, model) for item in error.errors(include_url=False)]
        raise ConfigError(
            f"{where} does not hold:\n" + "\n".join(f"  - {problem}" for problem in problems),
            fix="correct these keys; nothing was started",
        ) from error


def _describe(item: Any, model: type[BaseModel]) -> str:
    location: Sequence[str | int] = item["loc"]
    path = ".".join(str(part) for part in location) or "(the whole file)"
    if item["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(str(location[-1]), _keys_at(model, location[:-1]), n=1)
        return f"{path}: unknown key" + (f"; did you mean {nearest[0]!r}?" if nearest else "")
    return f"{path}: {str(item['msg']).removeprefix('Value error, ')}"


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The valid keys of the models that may stand at a location, as far as the annotations tell."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        deeper: list[type[BaseModel]] = []
        for candidate in models:
            field = candidate.model_fields.get(str(part))
            deeper += _models_in(field.annotation) if field else [candidate]
        models = deeper
    return sorted({name for candidate in models for name in candidate.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
