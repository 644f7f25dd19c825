"""Chooses classes for active fooling on training images: pairs whose original maps point into their own tiles."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import nn

from advfool.data.base import DataModule
from advfool.data.composites import Composites
from advfool.evaluation.gate import ENOUGH, own_tiles, shares_of
from advfool.interpreters.base import Interpreter
from advfool.utilities.errors import AdvfoolError

LEAST = 2  # images of a class that a composite needs


@dataclass(frozen=True)
class PairOfClasses:
    """Two classes, and how often both of their maps point into their own tiles.

    Args:
        classes: their indices, c1 first.
        names: their names.
        pointing: share of composites on which both maps do (`both`), and those of c1 and c2 each.
        passes: whether the share of both is at least 80 %.
        composites: which of the measured composites pass.
    """

    classes: tuple[int, int]
    names: tuple[str, str]
    pointing: dict[str, float]
    passes: bool
    composites: tuple[int, ...]


def measure_pairs(
    network: nn.Module,
    interpreter: Interpreter,
    data: DataModule,
    classes: Sequence[int] | None = None,
    most: int = 50,
    count: int = 64,
    seed: int = 0,
) -> list[PairOfClasses]:
    """Measure pairs of classes on composites of training images; the test images are not opened.

    Args:
        network: the original network, in eval mode.
        interpreter: whose maps shall be swapped.
        data: the training images.
        classes: indices of the classes whose pairs are measured; None: all that have two training images.
        most: so many pairs are measured; where there are more, they are drawn at random.
        count: composites for each pair.
        seed: of the composites and of the choice of pairs.

    Returns:
        the pairs, the best one first.

    Raises:
        AdvfoolError: fewer than two classes have two training images.
    """
    images = data.plain_train()
    labels = images.labels()
    enough = [c for c in range(len(data.classes)) if int((labels == c).sum()) >= LEAST]
    chosen = [c for c in enough if classes is None or c in classes]
    if len(chosen) < 2 or len(chosen) < len(set(classes or ())):
        raise AdvfoolError(
            f"pairs: expected at least two classes, each with {LEAST} training images, got {len(chosen)} such classes. "
            "Give others (classes=...) or more images (data.limit_train)."
        )
    found = []
    for pair in _some_pairs(chosen, most, seed):
        first, second = ((labels == c).nonzero()[:, 0] for c in pair)
        composites = Composites(images, pair, (first, second), count, seed)
        pointing = own_tiles(network, [interpreter], composites, range(count))[interpreter.name]
        shares, passing = shares_of(pointing), tuple(pointing.all(dim=1).nonzero()[:, 0].tolist())
        names = (data.labels[pair[0]], data.labels[pair[1]])
        found.append(PairOfClasses(pair, names, shares, shares["both"] >= ENOUGH, passing))
    return sorted(found, key=lambda each: -each.pointing["both"])


def record_of(pairs: Sequence[PairOfClasses]) -> dict[str, Any]:
    """Describe what was measured; where no pair passes, the record says so.

    Args:
        pairs: the best one first.
    """
    passing = [pair for pair in pairs if pair.passes]
    verdict = f"{len(passing)} of {len(pairs)} pairs pass" if passing else f"none of {len(pairs)} pairs passes"
    return {
        "verdict": f"{verdict} the gate of {ENOUGH:.0%}",
        "enough": ENOUGH,
        "chosen_on": "training images",
        "best": asdict(passing[0]) if passing else None,
        "pairs": [asdict(pair) for pair in pairs],
    }


def _some_pairs(classes: Sequence[int], most: int, seed: int) -> list[tuple[int, int]]:
    """List all pairs, or so many of them at random; of many classes, pairs are drawn without listing all."""
    total = len(classes) * (len(classes) - 1) // 2
    if total <= most:
        return list(combinations(classes, 2))
    generator, drawn = torch.Generator().manual_seed(seed), set()
    while len(drawn) < most:
        first, second = torch.randperm(len(classes), generator=generator)[:2].sort().values.tolist()
        drawn.add((classes[first], classes[second]))
    return sorted(drawn)
