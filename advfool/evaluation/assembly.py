"""Puts the parts of a run together and tries them on two images, so that what cannot work fails before long work."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from advfool.data.base import DataModule
from advfool.data.composites import CompositeSplits, class_indices, composite_splits
from advfool.data.samples import take
from advfool.evaluation.controls import OF_NETWORKS
from advfool.evaluation.gate import only_passing
from advfool.evaluation.setup import Settings, Setup
from advfool.foolings import Location, TopK
from advfool.foolings.base import CompositeFooling, Fooling
from advfool.interpreters.base import Interpreter
from advfool.models.weights import weights_digest
from advfool.utilities.errors import AdvfoolError

log = logging.getLogger(__name__)


def assemble(
    data: DataModule,
    original: nn.Module,
    interpreters: Mapping[str, Interpreter],
    fooling: Fooling,
    settings: Settings,
    trains: int = 1,
    optional: bool = False,
    model: str = "model",
    target_layer: str | None = None,
    any_scale: bool = False,
) -> Setup:
    """Check that the parts of a run fit each other, and describe the run.

    Args:
        data: the images, in three splits.
        original: the network before the fooling, in eval mode, which takes the images of the data.
        interpreters: those to evaluate with, by name; those to train with come first.
        fooling: an active one without classes takes the data's pair.
        settings: how the networks are compared.
        trains: so many of the first interpreters are trained with, all at once.
        optional: whether an interpreter that is only evaluated with, and cannot explain the network, is left out with
            a warning; otherwise it is an error.
        model: the network's name in tables.
        target_layer: the layer that the layer-wise interpreters explain.
        any_scale: whether maps may have values of a size that the fooling's interval is not meant for.

    Raises:
        AdvfoolError: something does not fit; the message says what to do.
    """
    fooling, composites = with_composites(fooling, data)
    if not any_scale:
        check_scale(fooling, interpreters)
    found: dict[str, Interpreter] = {}
    for name, interpreter in interpreters.items():
        trained = len(found) < trains
        try:
            _try_fooling(original, interpreter.for_training() if trained else interpreter, fooling, data)
        except AdvfoolError as error:
            if trained:
                raise
            if not optional:
                raise AdvfoolError(f"evaluate_with={name}: {error}") from error
            log.warning("evaluate_with: %s is left out: %s", name, error)
        else:
            found[name] = interpreter
    if not found:
        raise AdvfoolError("There is no interpreter to evaluate with: give one that works, evaluate_with=[gradcam].")
    if composites is not None and trains and fooling.gated:  # type: ignore[union-attr]
        composites = composites._replace(train=only_passing(original, next(iter(found.values())), composites.train))
    image = take(data.selection(), [0]).image[0]
    settings.aopc.check(image.shape[-2:], list(found))
    settings.faithfulness.check(image.shape[-2:])
    digest = weights_digest(original)
    together = max(1, int(trains))
    return Setup(data, original, found, fooling, settings, composites, model, target_layer, digest, together=together)


def with_controls(setup: Setup, networks: Mapping[str, nn.Module]) -> Setup:
    """Give a setup the networks whose heatmaps are controls, each tried with every interpreter.

    Args:
        setup: what is compared, and how.
        networks: in eval mode, by name: `honest_finetune`, `independent`.

    Raises:
        AdvfoolError: a name is no such control, a network cannot take the images, has other classes or cannot be
            explained.
    """
    for name, network in networks.items():
        if name not in OF_NETWORKS:
            raise AdvfoolError(f"nulls: expected networks for {' or '.join(OF_NETWORKS)}, got one for '{name}'.")
        try:
            try_network(network, setup.data)
            _check_classes(network, setup)
            for interpreter in setup.interpreters.values():
                _try_fooling(network, interpreter, setup.fooling, setup.data)
        except AdvfoolError as error:
            raise AdvfoolError(f"nulls.{name}: {error}") from error
    return replace(setup, controls={**setup.controls, **networks})


@torch.no_grad()
def _check_classes(network: nn.Module, setup: Setup) -> None:
    found, expected = network(take(setup.data.selection(), [0]).image).shape[1], len(setup.data.classes)
    if found != expected:
        raise AdvfoolError(f"expected a network with {expected} outputs, as the original network has, got {found}.")


def check_scale(fooling: Fooling, interpreters: Mapping[str, Interpreter]) -> None:
    """Check that the values of the heatmaps are of the size that a fooling's interval is meant for.

    Raises:
        AdvfoolError: Location is asked to judge maps that are divided by their sums.
    """
    for name, interpreter in interpreters.items():
        if interpreter.normalisation == "sum" and isinstance(fooling, Location):
            raise AdvfoolError(
                f"interp.normalise: expected max or minmax with fooling=location, got sum ({name}): values of a map "
                "that is divided by its sum are far below the mask's 1, so that its test loss and interval mean "
                "nothing. Use interp.normalise=max, or a fooling that does not depend on scale: center_mass, active, "
                "target."
            )
        if interpreter.normalisation == "sum" and isinstance(fooling, TopK):
            log.warning("%s: values of maps divided by their sums are so small that Top-k counts every map.", name)


def named_classes(fooling: CompositeFooling, data: DataModule) -> list[str | int | None]:
    """Return the classes that an active fooling names itself, or those of the data's pair; None where neither does."""
    own = (fooling.c1, fooling.c2)
    return [default if mine is None else mine for mine, default in zip(own, data.pair, strict=True)]


def with_classes(fooling: CompositeFooling, data: DataModule) -> CompositeFooling:
    """Give an active fooling its classes as indices: its own, or the data's pair where it names none.

    Raises:
        AdvfoolError: neither names two classes, or one does not exist.
    """
    given = named_classes(fooling, data)
    if None in given:
        raise AdvfoolError("fooling=active swaps two classes: name them, fooling.c1=... fooling.c2=...")
    c1, c2 = class_indices(data, given)  # type: ignore[arg-type]
    return replace(fooling, c1=c1, c2=c2)


def with_composites(fooling: Fooling, data: DataModule) -> tuple[Fooling, CompositeSplits | None]:
    """Give an active fooling its classes, and make the composites that it asks for; others are returned as they are.

    Raises:
        AdvfoolError: there are no two classes, or one has too few images.
    """
    if not isinstance(fooling, CompositeFooling):
        return fooling, None
    fooling = with_classes(fooling, data)
    pair, counts = (fooling.c1, fooling.c2), (fooling.train, fooling.test)
    return fooling, composite_splits(data, pair, *counts, fooling.fresh, fooling.seed)  # type: ignore[arg-type]


@torch.no_grad()
def try_network(network: nn.Module, data: DataModule) -> None:
    """Raise an AdvfoolError where the network cannot take the images of the data."""
    images = data.selection()  # test images are opened once, at the end
    batch = take(images, range(min(2, len(images))))
    try:
        network(batch.image)
    except (RuntimeError, AssertionError, ValueError) as error:
        shape = "x".join(map(str, batch.image.shape[1:]))
        raise AdvfoolError(
            f"{type(network).__name__} cannot take images of {shape} (channels, height, width): {error}. "
            "Give images of another size: model.input.size=..., model.input.resize=..."
        ) from error


@torch.no_grad()
def _try_fooling(network: nn.Module, interpreter: Interpreter, fooling: Fooling, data: DataModule) -> None:
    dataset = data.selection()
    images = take(dataset, range(min(2, len(dataset)))).image
    heatmaps = interpreter(network, images, 0)
    if isinstance(fooling, CompositeFooling):
        heatmaps = torch.stack([heatmaps, heatmaps], dim=1)
    compared = torch.stack([heatmaps, heatmaps], dim=1) if fooling.needs_another_class else heatmaps
    fooling.penalty(heatmaps, compared if fooling.needs_original else None)
