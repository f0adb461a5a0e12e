"""Reading a study file: YAML in which no key may stand twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lmri.errors import ConfigError


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, which keeps the last of equal keys and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Refuse a key that is there twice; one that replaces a merged one is not."""
        known = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in known:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is there twice", key.start_mark
                )
            known.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read a study file, without checking what it says.

    Parameters
    ----------
    path : Path
        YAML.

    Returns
    -------
    object
        Its values.

    Raises
    ------
    ConfigError
        If the file is missing, not YAML, has a key twice, or an alias inside of what it stands for;
        always one line.
    """
    try:
        with Path(path).open(encoding="utf-8") as stream:
            values = yaml.load(stream, _UniqueKeys)
        _check_ends(values)
        return values
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such study file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a readable study file ({error}).") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply, or inside itself by an alias.") from None


def _check_ends(values: Any) -> None:
    """Raise RecursionError where an alias stands inside of what it names, as YAML allows."""
    nested = values.values() if isinstance(values, dict) else values
    if isinstance(values, dict | list):
        for value in nested:
            _check_ends(value)
