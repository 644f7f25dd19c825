"""Explain why a configuration could not be composed: which override of the command line is wrong, and what is near."""

from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig

from advfool.commands.keys import COMMANDS, unknown_key
from advfool.utilities.config import config_dirs, names_in
from advfool.utilities.errors import AdvfoolError, nearest
from advfool.utilities.wording import shown

ADVICE = ("Set hydra.searchpath", "To append to your config", "Set the environment", "Config search path")


def explain(error: Exception, config_name: str, arguments: Sequence[str]) -> AdvfoolError:
    """Find the override that Hydra could not apply.

    Args:
        error: Hydra's.
        config_name: of the configuration.
        arguments: the command line.
    """
    flags = get_args_parser().parse_known_args(list(arguments))[0]
    try:
        check_overrides(flags.overrides, config_name, sweeps=flags.multirun)
    except AdvfoolError as found:
        return found
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(ADVICE)] or [type(error).__name__]
    near = ""
    if isinstance(error, MissingConfigException) and error.options:
        near = f" Close to it: {nearest(str(error.missing_cfg_file).rpartition('/')[2], list(error.options), 3)}."
    of_hydra = [text for text in flags.overrides if text.lstrip("+~").startswith("hydra")]
    about = f" Given to Hydra itself: {', '.join(of_hydra)}." if of_hydra else ""
    return AdvfoolError(f"The configuration cannot be composed: {told[0].rstrip('.')}.{near}{about}")


def check_overrides(texts: Sequence[str], config_name: str, sweeps: bool) -> None:
    """Check the overrides of a command line, each for itself.

    Args:
        texts: the overrides.
        config_name: of the configuration.
        sweeps: whether one may give several values.

    Raises:
        AdvfoolError: one cannot be read, or names a choice or a key that does not exist.
    """
    overrides = [_parsed(text) for text in texts]
    _check_groups(overrides, config_name)
    if not sweeps:
        _check_sweeps(overrides)
    _check_keys(overrides, config_name)


def _parsed(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
        if not override.key_or_group:
            raise HydraException("there is no key")
        return override
    except HydraException as error:
        reason = " ".join(str(error).splitlines()[0].split()[:12])
        home = " Home folders: in full, or KEY='\"~/...\"'." if "~" in text.partition("=")[2] else ""
        raise AdvfoolError(
            f"{shown(text)} is not KEY=VALUE ({reason}). Lists are [a,b], settings {{key: value}}; quote other special "
            f"characters: KEY='\"...\"'.{home}"
        ) from error


def _group(override: Override, config_name: str) -> str | None:
    """Return the folder of conf/ that an override chooses a file of; None for a value."""
    key = override.key_or_group
    if "model" not in COMMANDS[config_name].needs:  # a command without groups
        return None
    return key if any((folder / key).is_dir() for folder in config_dirs()) else None


def _choices(override: Override) -> list[Any]:
    if override.is_delete() and override.value() is None:
        return []
    if not override.is_sweep_override():
        return [override.value()]
    return list(override.sweep_string_iterator()) if override.is_choice_sweep() else []


def _check_groups(overrides: Sequence[Override], config_name: str) -> None:
    for override in overrides:
        group = _group(override, config_name)
        if group in COMMANDS[config_name].needs and (override.is_delete() or None in _choices(override)):
            raise AdvfoolError(f"{group} is missing: choose one, {group}=NAME.")
        for choice in _choices(override) if group else ():
            if choice is not None and str(choice) not in names_in(str(group)):
                names = names_in(str(group))
                raise AdvfoolError(
                    f"There is no {group} '{choice}'. Close to it: {nearest(str(choice), names, 3)}. "
                    f"All: {', '.join(names)}."
                )


def _check_sweeps(overrides: Sequence[Override]) -> None:
    for override in overrides:
        if override.is_sweep_override():
            text = override.input_line
            if text and override.is_choice_sweep():
                key, _, values = text.partition("=")
                raise AdvfoolError(
                    f"'{text}' gives several values to one key. A sweep over them needs -m; a list is written "
                    f"{key}=[{values}]; a text is quoted."
                )


def _check_keys(overrides: Sequence[Override], config_name: str) -> None:
    """Follow each override's path through the configuration with the chosen groups, but without other values."""
    groups = [override for override in overrides if _group(override, config_name)]
    chosen = [override.input_line for override in groups if not override.is_sweep_override()]
    try:
        with initialize_config_dir(str(config_dirs()[-1]), version_base="1.3"):
            cfg = compose(config_name, [text for text in chosen if text], return_hydra_config=True)
    except (HydraException, ValueError):
        return
    for override in overrides:
        if override not in groups and "/" not in override.key_or_group:
            _follow(cfg, override)


def _follow(cfg: DictConfig, override: Override) -> None:
    node: Any = cfg
    parts = override.key_or_group.split(".")
    for place, part in enumerate(parts):
        path, above = ".".join(parts[: place + 1]), ".".join(parts[:place])
        if isinstance(node, ListConfig):
            raise AdvfoolError(f"'{above}' is a list: give it as a whole, {above}=[...]{_hint(above)}.")
        if not isinstance(node, DictConfig) or node._is_none() or node._is_interpolation():
            raise AdvfoolError(f"'{above}' has no keys of its own, so '{path}' cannot be set{_hint(above)}.")
        if part not in node:
            if override.is_add() or override.is_force_add():
                return
            known = [str(key) for key in node if node is not cfg or key != "hydra"]
            raise unknown_key(path, known)
        node = node._get_node(part)


def _hint(key: str) -> str:
    """Say how the settings of interpreters are given."""
    if key.split(".")[0] in ("evaluate_with", "interpreters"):
        return ". Settings of an interpreter: evaluate_with=[gradcam,{lrp: {epsilon: 0.1}}]"
    return ""
