"""Safe reading of YAML; a text that readers would understand differently is refused."""

from __future__ import annotations

import re
from typing import Any

import yaml

__all__ = ["YamlError", "load", "load_all"]


_MERGE = "tag:yaml.org,2002:merge"  # the key <<


class YamlError(ValueError):
    """The text is not YAML, or says a thing twice; the message is a clause of one line."""


class _Loader(yaml.SafeLoader):
    """The safe loader; but a key that is there twice is an error, where the last would win.

    PyYAML follows YAML 1.1, where ``1e-3`` is a string. Here it is a number.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The node as written, before other mappings are merged into it."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        found: dict[Any, yaml.ScalarNode] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError(f"has a list or a mapping as a key, in line {line}; give it a name")
            # What the key means, not how it is written: 1 and 0x1 are one, so are on and yes.
            merge = key.tag == _MERGE
            first = found.setdefault(_MERGE if merge else (self.construct_object(key),), key)
            if first is not key:
                where = f"in lines {first.start_mark.line + 1} and {line}"
                other = f", the second time as {key.value!r}" if key.value != first.value else ""
                raise YamlError(
                    f"has the key {first.value!r} twice{other}, {where}; keep one of them"
                )
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load(text: str) -> Any:
    """The value of a text of one document; None if it is empty.

    Raises
    ------
    YamlError
        It is not YAML, or a mapping has a key twice.
    """
    found = load_all(text)
    if len(found) > 1:
        raise YamlError(f"holds {len(found)} documents where one is wanted")
    return found[0] if found else None


def load_all(text: str) -> list[Any]:
    """The values of a text of several documents.

    Raises
    ------
    YamlError
        As of :func:`load`.
    """
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except YamlError:
        raise
    except RecursionError:
        raise YamlError("is not YAML (it is nested too deeply)") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a date, or a number, that is none
        raise YamlError(f"is not YAML ({' '.join(str(error).split())})") from error
