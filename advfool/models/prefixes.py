"""Names of weights without what wrappers put before them: `module.`, `_orig_mod.`, `model.`, `network.`."""

import logging
from collections.abc import Collection, Mapping
from typing import TypeVar

from advfool.utilities.errors import AdvfoolError

log = logging.getLogger(__name__)
LEADING = (
    "module.",
    "_orig_mod.",
    "model.",
    "network.",
    "net.",
)  # of DataParallel, torch.compile, Lightning and others
INNER = ("module", "_orig_mod")  # of DataParallel and torch.compile of a part of the network

T = TypeVar("T")


def bare(name: str) -> str:
    """Return the name of a weight without the prefixes of wrappers, however many.

    >>> bare("module._orig_mod.features.module.0.weight")
    'features.0.weight'
    """
    prefix = _prefix(name)
    parts = name[len(prefix) :].split(".")
    return ".".join([*(part for part in parts[:-1] if part not in INNER), parts[-1]])


def without_prefixes(state: Mapping[str, T], own: Collection[str], source: str) -> dict[str, T]:
    """Return the weights under their bare names.

    Weights whose names have other prefixes than those of the network are left out, and the log says how many.

    Args:
        state: weights by name.
        own: the names of the network's weights, with or without prefixes.
        source: how messages call the weights.

    Raises:
        AdvfoolError: two weights have the same bare name.
    """
    wanted = {bare(name) for name in own}
    prefixes = {_prefix(name) for name in state if bare(name) in wanted}
    others = [name for name in state if bare(name) not in wanted and _prefix(name) not in prefixes]
    taken = [name for name in state if name not in set(others)]
    found: dict[str, str] = {}
    for name in taken:
        if found.setdefault(bare(name), name) != name:
            raise AdvfoolError(
                f"The weights in {source} are not clear: both '{found[bare(name)]}' and '{name}' could be "
                f"'{bare(name)}'. Save those of one network with torch.save(network.state_dict(), path)."
            )
    if others and prefixes != {""}:
        log.info("%s: %d tensors outside of the network are left out, as '%s'.", source, len(others), others[0])
        return {short: state[name] for short, name in found.items()}
    return {short: state[name] for short, name in found.items()} | {name: state[name] for name in others}


def with_prefixes(state: Mapping[str, T], own: Collection[str]) -> dict[str, T]:
    """Return weights with bare names under the names that the network has for them.

    Args:
        state: weights by bare name.
        own: the names of the network's weights.
    """
    names: dict[str, str] = {}
    for name in own:
        names.setdefault(bare(name), name)
    if len(names) < len(own):  # the network itself has two parts that differ by such a prefix only
        return dict(state)
    return {names.get(name, name): value for name, value in state.items()}


def _prefix(name: str) -> str:
    length = 0
    while found := next((each for each in LEADING if name.startswith(each, length)), None):
        length += len(found)
    return name[:length]
