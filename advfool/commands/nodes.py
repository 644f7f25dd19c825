"""Walk over the nodes of a configuration, and check each value against the signature that takes it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

from advfool.commands.keys import SPECIAL, unknown_key
from advfool.commands.marks import Builds, Each, TakenBy, declared
from advfool.commands.signatures import find, signature_of
from advfool.utilities.checking import check
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Label
from advfool.utilities.wording import shown

TAKEN = {"model.pretrain": TakenBy("advfool.training.pretraining.Recipe", nested="adversarial")}


def refuse_unknown_keys(node: Mapping[Any, object], known: Sequence[str], path: str) -> None:
    """Raise an AdvfoolError for the first key that a node cannot have; it names the nearest one that it can."""
    for key in node:
        if key not in known:
            raise unknown_key(f"{path}.{key}".strip("."), known)


class Nodes:
    """Check the values of a configuration; where several are wrong because they refer to one, that one is named.

    Args:
        cfg: the configuration, unresolved.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.referring: list[AdvfoolError] = []  # errors of values that are taken from other keys

    def check(self, tree: Mapping[str, object], hints: Mapping[str, Any]) -> None:
        """Check nodes at the top of the configuration.

        Args:
            tree: the resolved values by key.
            hints: what each key is.

        Raises:
            AdvfoolError: a value is wrong.
        """
        for key, value in tree.items():
            self._value(value, hints[key], key)
        if self.referring:
            raise self.referring[0]

    def _value(self, value: object, hint: Any, key: str) -> None:
        if each := declared(hint, Each):
            self._each(value, each, key)
        elif builds := declared(hint, Builds):
            self._object(value, builds, key)
        elif taken := declared(hint, TakenBy):
            self._settings(value, taken, key)
        elif (entries := _entries(hint)) and isinstance(value, Mapping):
            for name, inner in value.items():
                self._value(inner, entries, f"{key}.{name}")
        else:
            self._leaf(value, hint, key)

    def _leaf(self, value: object, hint: Any, key: str) -> None:
        try:
            check(hint, value, key, "null")
            _check_home(value, key)
        except AdvfoolError as error:
            if not self._refers(key):
                raise
            self.referring.append(error)

    def _refers(self, key: str) -> bool:
        """Tell whether a value, or a node above it, is taken from another key."""
        node: Any = self.cfg
        if ": " in key:  # of an interpreter that is evaluated with
            return True
        for part in key.split("."):
            if not isinstance(node, DictConfig) or part not in node:
                return False
            if OmegaConf.is_interpolation(node, part):
                return True
            node = node._get_node(part)
        return False

    def _each(self, value: object, each: Each, key: str) -> None:
        """Check a node that holds others by name; null among them leaves one out."""
        if value is None:
            return
        if not isinstance(value, Mapping):
            raise AdvfoolError(f"{key} must be names with settings, got {shown(value, 'null')}.")
        for name, node in value.items():
            if node is not None:
                self._object(node, Builds(each.kind), f"{each.shown or f'{key}.'}{name}")

    def _object(self, value: object, builds: Builds, key: str) -> None:
        """Check a node that describes an object by `_target_` and arguments."""
        if value is None and builds.optional:
            return
        if not isinstance(value, Mapping) or ("_target_" not in value and not builds.default):
            hint = "null or " if builds.optional else ""
            raise AdvfoolError(f"{key} must be {hint}settings with a _target_, got {shown(value, 'null')}.")
        expected, target = find(builds.kind, key), value.get("_target_", builds.default)
        found = find(target, f"{key}._target_")
        if isinstance(found, type) and not issubclass(found, expected):
            raise AdvfoolError(f"{key}._target_ must name a kind of {expected.__name__}, got '{target}'.")
        if builds.partial and "_target_" in value and value.get("_partial_") is not True:
            raise AdvfoolError(f"{key}._partial_ must be true, got {shown(value.get('_partial_'), 'null')}.")
        if key in ("model", "fooling", "interp", "preserve") and "name" in value:
            self._leaf(value["name"], Label, f"{key}.name")
        self._arguments(value, found, str(target), builds.given, key)

    def _arguments(self, node: Mapping, target: Any, name: str, given: Sequence[str], key: str) -> None:
        signature = signature_of(target, name)
        if not signature.open:
            known = [each for each in signature.hints if each not in given]
            refuse_unknown_keys(node, [*known, *SPECIAL], key)
        for parameter in () if node.get("_partial_") else signature.required:
            if parameter not in node and parameter not in given and "_target_" in node:
                raise AdvfoolError(f"{key}.{parameter} is missing: {name} needs it.")
        for parameter, value in node.items():
            if parameter not in SPECIAL:
                self._argument(value, signature.hints.get(parameter, Any), f"{key}.{parameter}")

    def _argument(self, value: object, hint: Any, path: str) -> None:
        if isinstance(value, Mapping) and "_target_" in value:
            inner = find(value["_target_"], f"{path}._target_")
            _check_kind(inner, hint, path)
            self._arguments(value, inner, value["_target_"], (), path)
        elif path in TAKEN:
            self._settings(value, TAKEN[path], path)
        else:
            self._leaf(value, hint, path)

    def _settings(self, value: object, taken: TakenBy, key: str, whole: bool = True) -> None:
        """Check a node without `_target_`, whose values become arguments of a constructor."""
        if not isinstance(value, Mapping):
            raise AdvfoolError(f"{key} must be names with values, got {shown(value, 'null')}.")
        signature = signature_of(find(taken.kind, key), taken.kind)
        known = [name for name in signature.hints if name not in taken.given]
        refuse_unknown_keys(value, [*known, *([taken.nested] if taken.nested else [])], key)
        for name in signature.required if whole else ():
            if name not in value:
                raise AdvfoolError(f"{key}.{name} is missing.")
        for name, inner in value.items():
            if name != taken.nested:
                self._value(inner, signature.hints[name], f"{key}.{name}")
            elif inner is not None:
                self._settings(inner, TakenBy(taken.kind), f"{key}.{name}", whole=False)


def _check_home(value: object, key: str) -> None:
    """Refuse a path in the home folder of a user who does not exist."""
    if isinstance(value, str) and value.startswith("~"):
        try:
            Path(value).expanduser()
        except RuntimeError:
            raise AdvfoolError(f"{key} begins with a home folder that does not exist, got '{value}'.") from None


def _entries(hint: Any) -> Any:
    """Return the type of the values where a type is that of names with values; None for other types."""
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_args(inner)[1] if get_origin(inner) is Mapping else None


def _check_kind(found: Any, hint: Any, path: str) -> None:
    """Refuse an object of a class that a parameter does not take."""
    kinds = tuple(kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and kind is not type(None))
    if isinstance(found, type) and kinds and not issubclass(found, kinds):
        raise AdvfoolError(f"{path} must be {' or '.join(kind.__name__ for kind in kinds)}, got {found.__name__}.")
