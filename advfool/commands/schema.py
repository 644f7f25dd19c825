"""What each key of a configuration is for, declared once.

A key's role follows from the constructor that takes it: own constructors mark a parameter with
`Annotated[type, Role.PLACE]`, classes that only show something have `role = Role.SHOWN`. The keys that no constructor
takes, and the parameters of other libraries' constructors, are declared here. Everything else is a setting.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig

from advfool.utilities.config import leaves, plain
from advfool.utilities.roles import Role

Node = Any  # a node of the configuration with keys of its own
SETTING, NAME, SHOWN, PLACE, SOURCE = Role.SETTING, Role.NAME, Role.SHOWN, Role.PLACE, Role.SOURCE


@dataclass
class RunKeys:
    """The keys that training and evaluation have in common; an evaluation takes them from the run that it evaluates."""

    model: Annotated[Node, NAME]
    fooling: Annotated[Node, NAME]
    interp: Annotated[Node, NAME]
    seed: Annotated[int, NAME]
    data: Node
    target: str
    fsr_images: int | None
    aopc: Node
    cache: Annotated[str, PLACE]


@dataclass
class TrainKeys(RunKeys):
    """The keys of train.yaml, and the configuration groups that leave no key."""

    evaluate_with: list
    interpreters: Node
    imports: list
    fool_weight: float
    distillation_temperature: float
    composite_batch: int
    preserve: Node
    train_target_top: int | None
    mix: float
    trainable: list | None
    select: str
    drop_weight: float
    optimizer: Node
    scheduler: Node
    trainer: Node
    callbacks: Node
    cache_original: bool
    pictures: Annotated[int, SHOWN]
    logger: Annotated[Node, SHOWN]
    paper: Annotated[str | None, SHOWN]
    resume: Annotated[str | None, PLACE]
    experiment: Annotated[str | None, SOURCE]
    scale: Annotated[Node, SOURCE]
    steps_of: Annotated[Node, SOURCE]
    table4: Annotated[Node, SOURCE]
    launcher: Annotated[str | None, PLACE]
    hydra: Annotated[Node, PLACE]


@dataclass
class EvaluateKeys(RunKeys):
    """The keys of evaluate.yaml that an evaluation uses."""

    run: str | None
    allow: Annotated[list | str, PLACE]
    original: str | None
    manipulated: str | None
    evaluate_with: list
    interpreters: Node
    imports: list
    pictures: Annotated[int, SHOWN]
    trainer: Node
    callbacks: Annotated[Node, SHOWN]


FOREIGN: dict[str, dict[str, Role]] = {  # parameters of other libraries' constructors
    "pytorch_lightning.Trainer": {"default_root_dir": PLACE},
    "pytorch_lightning.callbacks.ModelCheckpoint": {"dirpath": PLACE},
}
BY_PATH = {"callbacks.last": PLACE}  # a checkpoint to resume from, and no choice


def keys_of(schema: type) -> list[str]:
    """List the top-level keys of a schema."""
    return [field.name for field in fields(schema)]


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
    role = _declared(hint) or SETTING
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


def settings_of(cfg: DictConfig, schema: type = TrainKeys) -> dict[str, object]:
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


def _declared(hint: object) -> Role | None:
    if get_origin(hint) is Annotated:
        return next((extra for extra in get_args(hint)[1:] if isinstance(extra, Role)), None)
    return None


def _of_class(target: str) -> Role | None:
    role = getattr(get_object(target), "role", None)
    return role if isinstance(role, Role) else None


def _of_parameter(target: str, name: str) -> Role | None:
    """Read the role from the constructor's signature, or from the declaration for another library's constructor."""
    if target in FOREIGN:
        return FOREIGN[target].get(name)
    kind = get_object(target)
    for ancestor in kind.__mro__ if inspect.isclass(kind) else (kind,):
        function = vars(ancestor).get("__init__") if inspect.isclass(ancestor) else ancestor
        if name in getattr(function, "__annotations__", {}):
            return _declared(get_type_hints(function, include_extras=True).get(name))
    return None
