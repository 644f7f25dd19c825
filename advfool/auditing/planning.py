"""Which attacks are tried on an interpreter: in which order, and which of them mean nothing for it."""

import logging
from collections.abc import Iterator, Mapping

import torch

from advfool.auditing.attack import attacked_by
from advfool.auditing.suite import AuditSettings, Trial
from advfool.data.composites import ENOUGH as ENOUGH_IMAGES
from advfool.data.composites import class_indices
from advfool.data.samples import Sample, Samples, in_batches, some_of, take
from advfool.evaluation.assembly import check_scale, named_classes
from advfool.evaluation.gate import ENOUGH, own_tiles, shares_of
from advfool.evaluation.paired import explained_classes
from advfool.evaluation.setup import Setup
from advfool.foolings.base import CompositeFooling, Fooling
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.training.free_direction import find_free_layer
from advfool.utilities.errors import AdvfoolError, first_line
from advfool.utilities.heatmaps import is_degenerate

log = logging.getLogger(__name__)
TRIED = 16  # images on which the layer that can move without changing a prediction is found
IMAGES = 128  # of the selection that are looked at, at most
AT_A_TIME = 32
PREDICTED = 10  # composites of which the network predicts a class, for its deceptive rate to mean something


def planned_trials(
    setup: Setup, settings: AuditSettings, foolings: Mapping[str, Fooling]
) -> tuple[list[Trial], dict[str, str]]:
    """Plan the trials; also tell which attacks are left out of them, and why."""
    data, images = setup.data.selection(), len(setup.data.train())
    parameters = sum(parameter.numel() for parameter in setup.original.parameters())
    layer = find_free_layer(setup.original, take(data, range(min(TRIED, len(data)))).image)
    checked: set[str] = set()
    left_out: dict[str, str] = {}
    while True:  # an attack that takes the turn of one that is left out has not been looked at
        plan = settings.planned(images, parameters, layer, left_out)
        new = {trial.attack: foolings[trial.attack] for trial in plan if trial.attack not in checked}
        if not new:
            return plan, left_out
        checked |= new.keys()
        for attack, why in meaningless(setup, new).items():
            log.info("  %s is left out: %s", attack, why)
            left_out[attack] = why


def meaningless(setup: Setup, foolings: Mapping[str, Fooling]) -> dict[str, str]:
    """Find the attacks that mean nothing for the first interpreter of a setup.

    Args:
        setup: of the audit.
        foolings: those of the attacks, by name.

    Returns:
        for each such attack, why.

    Raises:
        AdvfoolError: the data name classes to swap that do not exist.
    """
    found = {}
    for name, fooling in foolings.items():
        if isinstance(fooling, CompositeFooling):
            why = _why_no_swap(setup, fooling)
        elif fooling.needs_another_class:
            why = _why_no_other_class(setup, fooling)
        else:
            why = _why_no_scale(setup, fooling)
        if why:
            found[name] = why
    return found


def _why_no_scale(setup: Setup, fooling: Fooling) -> str | None:
    """Say why the values of the maps are not those that a fooling's interval is meant for."""
    try:
        check_scale(fooling, {setup.trained.name: setup.trained})
    except AdvfoolError as error:
        return first_line(error)
    return None


@torch.no_grad()
def _why_no_swap(setup: Setup, fooling: CompositeFooling) -> str | None:
    """Say why a swap of two classes' maps means nothing: there are none, or the original maps do not tell them."""
    given = named_classes(fooling, setup.data)
    if None in given:
        return "the data name no two classes to swap (data.pair)"
    pair = class_indices(setup.data, given)  # type: ignore[arg-type]
    labels = setup.data.selection().labels()
    fewest = min(int((labels == label).sum()) for label in pair)
    if fewest < ENOUGH_IMAGES:
        return f"a class to swap has {fewest} selection images; it takes {ENOUGH_IMAGES}"
    try:
        composites = attacked_by(setup, fooling).composites
    except AdvfoolError as error:
        return first_line(error)
    assert composites is not None
    images = composites.selection
    pointing = own_tiles(setup.original, [setup.trained], images, range(len(images)))
    share = shares_of(pointing[setup.trained.name])["both"]
    if share < ENOUGH:
        return f"both original maps point into their own tiles on {share:.1%} of the composites, below {ENOUGH:.0%}"
    predicted = torch.cat([setup.original(batch.image).argmax(dim=1) for batch in _batches(setup, images)])
    fewest = min(int((predicted == label).sum()) for label in pair)
    if fewest < PREDICTED:
        return f"the network predicts a class to swap on {fewest} of the composites; it takes {PREDICTED}"
    return None


@torch.no_grad()
def _why_no_other_class(setup: Setup, fooling: Fooling) -> str | None:
    """Say why the map of another class is no target: on too many images it is empty."""
    interpreter, usable = setup.trained, []
    for batch in _batches(setup, setup.data.selection()):
        recording = record(setup.original, batch.image, [interpreter])
        explained = explained_classes(batch.label, setup.settings.target, recording.logits)
        maps = read_maps(interpreter, recording, fooling.compared_classes(explained, recording.logits))
        usable.append(~is_degenerate(maps.flatten(0, 1)).view(maps.shape[:2]).any(dim=1))
    share = torch.cat(usable).float().mean().item()
    return None if share >= ENOUGH else f"the map of another class is empty on {1 - share:.1%} of the images"


def _batches(setup: Setup, images: Samples) -> Iterator[Sample]:
    """Read some of the images, chosen by the seed, on the network's device."""
    device = next(setup.original.parameters(), torch.zeros(0)).device
    return in_batches(images, some_of(len(images), IMAGES, setup.settings.seed), AT_A_TIME, device)
