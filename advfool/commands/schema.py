"""What each key of a configuration is for, declared once.

A key's role follows from the constructor that takes it: own constructors mark a parameter with
`Annotated[type, Role.PLACE]`, classes that only show something have `role = Role.SHOWN`. The keys that no constructor
takes, and the parameters of other libraries' constructors, are declared here. Everything else is a setting.
"""

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from hydra.utils import get_object

from advfool.commands.foreign import foreign_parameters
from advfool.commands.keys import NAME, PLACE, SETTING, RunKeys, TrainKeys, keys_of
from advfool.commands.marks import declared
from advfool.utilities.config import leaves, plain
from advfool.utilities.roles import Role

BY_PATH = {"callbacks.last": PLACE}  # a checkpoint to resume from, and no choice


def role_of(cfg: Mapping, path: str, schema: type = TrainKeys) -> Role:
    """Tell what a key is for.

    Args:
        cfg: the configuration.
        path: dotted path of the key, such as `data.root`.
        schema: the top-level keys.

    Returns:
        its role: that of the first part of the path that is not a setting or a name, or a setting.
    """
    first, *rest = path.split(".")
    hint = get_type_hints(schema, include_extras=True).get(first)
    role = declared(hint, Role) or SETTING
    if role not in (SETTING, NAME) or not rest:
        return role
    return _below(cfg.get(first), first, rest)


def _below(node: Any, path: str, rest: list[str]) -> Role:
    """Find the role of a key below a node whose own role is a setting."""
    key, *further = rest
    role = BY_PATH.get(f"{path}.{key}") or SETTING
    child = node.get(key) if isinstance(node, Mapping) else None
    if isinstance(node, Mapping) and "_target_" in node:
        role = _of_parameter(node["_target_"], key) or role
    if isinstance(child, Mapping) and "_target_" in child:
        role = _of_class(child["_target_"]) or role
    return role if role is not SETTING or not further else _below(child, f"{path}.{key}", further)


def settings_of(cfg: Mapping, schema: type = TrainKeys) -> dict[str, object]:
    """List the values that decide the results, by dotted path: all settings and names of a configuration."""
    tree = plain(cfg)
    found = {}
    for path, value in leaves({key: tree[key] for key in tree if key in keys_of(schema)}):
        if role_of(tree, path, schema) in (SETTING, NAME):
            found[path] = value
    return found


def is_named(cfg: Mapping, override: str) -> bool:
    """Tell whether an override belongs into the name of a run: it is a setting that the name does not have yet."""
    path = override.partition("=")[0].lstrip("+~").partition("@")[0].replace("/", ".")
    if path in [key for key in keys_of(RunKeys) if role_of(cfg, key) is NAME]:
        return False
    return role_of(cfg, path) in (SETTING, NAME)


def _of_class(target: str) -> Role | None:
    role = getattr(get_object(target), "role", None)
    return role if isinstance(role, Role) else None


def _of_parameter(target: str, name: str) -> Role | None:
    """Read the role from the constructor's signature, or from the declaration for another library's constructor."""
    if foreign := foreign_parameters(target):
        return declared(foreign.get(name), Role)
    kind = get_object(target)
    for ancestor in kind.__mro__ if inspect.isclass(kind) else (kind,):
        function = vars(ancestor).get("__init__") if inspect.isclass(ancestor) else ancestor
        if name in getattr(function, "__annotations__", {}):
            return declared(get_type_hints(function, include_extras=True).get(name), Role)
    return None
