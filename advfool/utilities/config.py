"""Hydra's configuration: its folders, nodes of it by name, and objects built from nodes."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError, nearest, with_causes
from advfool.utilities.stored import stored_yaml

PACKAGE = Path(__file__).parents[1]
_registered: list[Path] = []  # folders of a user's own, the newest first


def conf_dir() -> Path:
    """Find the folder of advfool's own configuration.

    Returns:
        `advfool/conf` of an installed package, or `conf` beside the package in a checkout.
    """
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parent / "conf"


@checked
def register(folder: str | Path) -> None:
    """Make the YAML files of a folder known by their names, as `--config-dir` does on the command line.

    Args:
        folder: laid out like `conf/`: `interp/NAME.yaml`, `fooling/NAME.yaml`, `data/NAME.yaml`, `model/NAME.yaml`.
            A name that advfool has as well means the folder's file.

    Raises:
        AdvfoolError: there is no such folder.
    """
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise AdvfoolError(f"register: expected a folder with YAML files such as interp/NAME.yaml, found no '{path}'.")
    if path not in _registered:
        _registered.insert(0, path)


def config_dirs() -> list[Path]:
    """List the folders that names are looked up in, the first one wins.

    Returns:
        folders given by `register`, those of the running command (`--config-dir`), and advfool's own.
    """
    return [*own_config_dirs(), conf_dir()]


def own_config_dirs() -> list[Path]:
    """List the folders of the user's own configuration: those given by `register` and `--config-dir`."""
    given: list[Path] = []
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        given = [Path(source.path) for source in sources if source.schema == "file" and source.path]
    return [folder for folder in dict.fromkeys([*_registered, *given]) if folder != conf_dir()]


def names_in(group: str, pattern: str = "*") -> list[str]:
    """List the names that a configuration group has.

    Args:
        group: for example `interp`.
        pattern: keeps the names that match it; `*` and `?` are wildcards.
    """
    found = {path.stem for folder in config_dirs() for path in (folder / group).glob("*.yaml")}
    return sorted(name for name in found if fnmatch(name, pattern))


def named_config(group: str, name: str) -> DictConfig:
    """Read the node that a name of a configuration group stands for, with its interpolations as they are.

    Args:
        group: for example `interp`.
        name: the stem of a YAML file in that group.

    Raises:
        AdvfoolError: there is no such name, or the file cannot be read.
    """
    places = (folder / group / f"{name}.yaml" for folder in config_dirs() if Path(name).name == name)
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        names = names_in(group)
        kind = "interpreter" if group == "interp" else group
        raise AdvfoolError(f"There is no {kind} '{name}'. Close to it: {nearest(str(name), names, len(names))}.")
    node = read_config(path)
    bases = [entry for entry in node.pop("defaults", []) if entry != "_self_"]
    for base in reversed(bases):
        if not isinstance(base, str):
            raise AdvfoolError(f"'{path}': defaults may only name other files of the group '{group}', got {base}.")
        node = OmegaConf.merge(named_config(group, base), node)
    assert isinstance(node, DictConfig)
    return node


def read_config(path: Path) -> DictConfig:
    """Read a YAML file of the user's own with keys and values; interpolations stay as they are.

    Files in a run's folder are read by `advfool.utilities.stored.stored_yaml`.

    Raises:
        AdvfoolError: the file is missing, damaged, or holds something else.
    """
    try:
        node = OmegaConf.load(path)
    except (YAMLError, OSError, ValueError) as error:
        raise AdvfoolError(f"'{path}' cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(node, DictConfig):
        raise AdvfoolError(f"'{path}' is expected to hold keys with values.")
    return node


def read_tree(path: Path) -> dict[str, Any] | None:
    """Read a run's configuration as dictionaries, without resolving it; None where it is missing or damaged."""
    try:
        return stored_yaml(path.parent, path.name)
    except AdvfoolError:
        return None


def as_config(*trees: Mapping) -> DictConfig:
    """Merge dictionaries into a configuration; later values replace earlier ones."""
    merged = OmegaConf.merge(*(OmegaConf.create(dict(tree)) for tree in trees))
    assert isinstance(merged, DictConfig)
    return merged


def interpreter_configs(entries: object, key: str = "evaluate_with") -> dict[str, DictConfig]:
    """Read the nodes of several interpreters.

    Args:
        entries: names, or `{NAME: {SETTING: VALUE}}` for other settings than those of the YAML file.
        key: of the configuration that holds them, for messages.

    Returns:
        the nodes by name.

    Raises:
        AdvfoolError: an entry is neither, a name or a setting does not exist, or a name appears twice.
    """
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        raise AdvfoolError(f"{key} must be a list of names, e.g. [gradcam,lrp_t], got {entries!r}.")
    found: dict[str, DictConfig] = {}
    for entry in entries:
        for name, settings in entry.items() if isinstance(entry, Mapping) else [(entry, {})]:
            if not isinstance(name, str) or not isinstance(settings, Mapping) or name in found:
                raise AdvfoolError(f"{key}: expected different names or {{name: settings}}, got {entry!r}.")
            node = named_config("interp", name)
            refuse_unknown(f"{key}: {name}", settings, node)
            found[name] = node
            node.update(settings)
            node.name = name
    return found


def refuse_unknown(of: str, settings: Mapping[Any, object], node: DictConfig) -> None:
    """Raise an AdvfoolError that names the known settings, where one is given that the node does not have."""
    if unknown := [str(key) for key in settings if key not in node]:
        known = [str(key) for key in node if key not in ("_target_", "name")]
        near = nearest(unknown[0], known, 1)
        raise AdvfoolError(
            f"{of} has no setting {', '.join(unknown)}. It has: {', '.join(known)}. Close to {unknown[0]}: {near}."
        )


def _interpreters(entries: object, key: str = "evaluate_with", *, _parent_: DictConfig) -> DictConfig:
    """Resolve `${interpreters:LIST}` to the nodes of the interpreters in the list."""
    names = OmegaConf.to_container(entries) if OmegaConf.is_config(entries) else entries
    node = OmegaConf.create(interpreter_configs(names, key))  # type: ignore[arg-type]
    node._set_parent(_parent_)  # interpolations in the nodes refer to the whole configuration
    return node


OmegaConf.register_new_resolver("interpreters", _interpreters, replace=True)


def build(node: DictConfig, **kwargs: object) -> Any:
    """Build the object that a node describes.

    Args:
        node: with `_target_`, the class, and its arguments.
        kwargs: further arguments, which replace those of the node.

    Raises:
        AdvfoolError: the constructor's own, or one that says which target could not be built and why.
    """
    try:
        return instantiate(node, _convert_="object", **kwargs)
    except InstantiationException as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, AdvfoolError):
            cause = cause.__cause__
        if isinstance(cause, AdvfoolError):
            raise cause from None
        raise AdvfoolError(f"Could not build {node.get('_target_')}: {type(cause).__name__}: {cause}") from error


def build_named(group: str, name: str, context: Mapping[str, object], **settings: object) -> Any:
    """Build the object that a name of a configuration group stands for.

    Args:
        group: for example `fooling`.
        name: the stem of a YAML file in that group.
        context: what the file's interpolations refer to, such as `{"model": {"target_layer": ...}}`.
        settings: values in place of those in the file.

    Raises:
        AdvfoolError: there is no such name or setting, or the object refuses a value.
    """
    node = named_config(group, name)
    node = node[group] if group in node and "_target_" not in node else node  # a file for the global package
    refuse_unknown(f"{group}={name}", settings, node)
    tree = OmegaConf.create({**copy.deepcopy(dict(context)), group: node})
    return build(tree[group], **settings)


def plain(cfg: object) -> Any:
    """Turn a node into dictionaries and lists, with its interpolations resolved."""
    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg


def leaves(tree: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values of a tree of dictionaries with their dotted paths."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}".strip("."))
    else:
        yield path, tree


def about_a_value(problem: OmegaConfBaseException) -> AdvfoolError:
    """Turn the error of a value that is missing, or that refers to nothing, into an expected error."""
    for cause in with_causes(problem):
        if isinstance(cause, AdvfoolError):  # inside a resolver
            return cause
    first = str(problem).splitlines()[0]
    if not problem.full_key:
        return AdvfoolError(
            f"The configuration refers to a value that does not exist: {first}. Override what refers to it."
        )
    return AdvfoolError(
        f"The configuration has no usable value for '{problem.full_key}': {first}. Give it: {problem.full_key}=..."
    )
