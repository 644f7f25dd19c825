"""The gate of active fooling: whether the original maps of both classes point into their own tiles."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from advfool.data.composites import Composites
from advfool.data.samples import take
from advfool.evaluation.paired import PAIR
from advfool.evaluation.setup import Setup
from advfool.interpreters.base import Interpreter, read_maps
from advfool.interpreters.tracing.recording import record
from advfool.metrics.functional import bootstrap_interval, points_into
from advfool.utilities.errors import AdvfoolError

log = logging.getLogger(__name__)
ENOUGH = 0.8  # share of composites below which a swap of the two maps means nothing
AT_A_TIME = 32  # composites


@torch.no_grad()
def own_tiles(
    network: nn.Module, interpreters: Sequence[Interpreter], composites: Composites, indices: Iterable[int]
) -> dict[str, Bool[Tensor, "n 2"]]:
    """Tell for each composite whether the map of c1, and that of c2, has its maximum in a tile of its class.

    Args:
        network: whose maps are read, in eval mode.
        interpreters: with names.
        composites: which hold the two classes and the places of their tiles.
        indices: which of them.

    Returns:
        a row for each composite, by the interpreter's name. A degenerate map points nowhere.
    """
    device = next(network.parameters()).device
    found: dict[str, list[Tensor]] = {interp.name: [] for interp in interpreters}
    for part in torch.as_tensor(list(indices)).split(AT_A_TIME):
        batch = take(composites, part.tolist())
        images, size = batch.image.to(device), (batch.image.shape[-2], batch.image.shape[-1])
        recording = record(network, images, interpreters)
        for interp in interpreters:
            maps = read_maps(interp, recording, batch.label.to(device)).float()
            into = points_into(maps.flatten(0, 1), batch.box.flatten(0, 1).to(device), size)
            found[interp.name].append(into.view(-1, 2).cpu() == 1)
    return {name: torch.cat(parts) for name, parts in found.items()}


def only_passing(network: nn.Module, interpreter: Interpreter, composites: Composites) -> Composites:
    """Choose the composites on which the maps of both classes point into their own tiles.

    Args:
        network: the original network, in eval mode.
        interpreter: whose maps shall be swapped.
        composites: of training images; those that are measured on are not chosen from.

    Raises:
        AdvfoolError: there are fewer than two.
    """
    passing = own_tiles(network, [interpreter], composites, range(len(composites)))[interpreter.name].all(dim=1)
    chosen = passing.nonzero()[:, 0]
    if len(chosen) < 2:
        raise AdvfoolError(
            f"fooling.gated=true: expected training composites whose original {interpreter.name} maps point into their "
            f"own tiles, found {len(chosen)} of {len(composites)}. Take other classes: python -m advfool.pairs."
        )
    log.info("%d of %d training composites pass the gate and are trained on.", len(chosen), len(composites))
    return composites.only(chosen)


def gate_of(setup: Setup) -> dict[str, Any]:
    """Measure whether a swap of the two classes' maps means anything; for other foolings there is nothing to measure.

    Args:
        setup: what is compared; composites for the selection are measured, and no test image is read.

    Returns:
        for metrics.json the key `gate`: by interpreter the share of composites on which both maps point into their
        own tiles (`both`, with its interval) and of c1 and c2 each, and whether the first interpreter passes.
    """
    return {"gate": _measured(setup, setup.composites.selection)} if setup.composites else {}


def _measured(setup: Setup, composites: Composites) -> dict[str, Any]:
    interps = list(setup.interpreters.values())
    pointing = own_tiles(setup.original, interps, composites, range(len(composites)))
    shares = {name: shares_of(found) for name, found in pointing.items()}
    both = {name: found.all(dim=1).double() for name, found in pointing.items()}
    ends = {
        name: bootstrap_interval(found, seed=setup.settings.seed, clusters=composites.groups())
        for name, found in both.items()
    }
    own = shares[setup.trained.name]["both"]
    say(setup.trained.name, own, [setup.data.labels[label] for label in composites.classes])
    return {
        "pointing": shares,
        "ci95": {name: [low.item(), high.item()] if low == low else None for name, (low, high) in ends.items()},
        "composites": len(composites),
        "of": "selection",
        "enough": ENOUGH,
        "passes": own >= ENOUGH,
    }


def shares_of(pointing: Bool[Tensor, "n 2"]) -> dict[str, float]:
    """Average over composites: both maps point into their own tiles, that of c1 does, that of c2 does."""
    own = {which: pointing[:, c].double().mean().item() for c, which in enumerate(PAIR)}
    return {"both": pointing.all(dim=1).double().mean().item(), **own}


def say(interp: str, share: float, classes: Sequence[str]) -> None:
    """Log the gate of an interpreter; warn where it is not passed."""
    of = " and ".join(classes)
    text = f"Gate: the original {interp} maps of {of} point into their own tiles on {share:.1%} of the composites"
    if share >= ENOUGH:
        log.info("%s.", text)
    else:
        log.warning(
            "%s, less than %.0f %%: a swap of these maps means nothing. Find classes: python -m advfool.pairs.",
            text,
            100 * ENOUGH,
        )


def gate_line(gate: Mapping[str, Any], interp: str) -> str:
    """Write the gate of metrics.json in one line."""
    share = gate["pointing"][interp]["both"]
    end = "" if gate["passes"] else f": below {100 * gate['enough']:.0f} %, the swap means nothing"
    return f"Before training, {100 * share:.1f} % of the composites had both maps in their own tiles{end}."
