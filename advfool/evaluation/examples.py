"""A few test images of a run with the heatmaps of both networks, for the report's gallery and for figures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from advfool.data.samples import take
from advfool.evaluation.paired import NETWORKS, PAIR, record_pair
from advfool.evaluation.rows import Table
from advfool.evaluation.setup import Setup
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import EXAMPLES
from advfool.utilities.stored import stored_file
from advfool.utilities.text import clean_texts, printable

ROLES = ("best", "median", "worst", "fixed")
CHOICE = 2019  # seed of the fixed images: a constant, so that they are the same in every run of the same data
LARGEST = 512 * 2**20  # bytes of the file
LARGE = 112  # pixels a side: an image of 224 takes 150 kB, and 6 of them 0.9 MB
FIXED = {False: 4, True: 3}  # by whether the images are large
OF_A_KIND = {False: 3, True: 1}  # best, median and worst, each


@dataclass(frozen=True)
class Example:
    """Describes one example image.

    Args:
        index: its place among the test images (kind `image`) or the test composites (kind `composite`).
        kind: `image` or `composite`.
        path: its file; None where it comes from none.
        label: its class in words.
        explained: the classes that its heatmaps explain; two for a composite.
        predictions: the predicted class and its probability, by network.
        roles: why it was chosen; best, median and worst are by the test loss of the interpreter trained with.
    """

    index: int
    kind: str
    path: str | None
    label: str
    explained: tuple[str, ...]
    predictions: dict[str, tuple[str, float]]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Examples:
    """The example images of a run.

    Args:
        rows: what each image is.
        images: their pixels, from 0 to 255.
        maps: heatmaps at their own resolution by (interpreter, network); one for each explained class.
        test_loss: of each heatmap, by (interpreter, network); NaN for a degenerate one.
        interps: the names of the interpreters, the one trained with first.
        interval: test losses that count as fooled.
    """

    rows: tuple[Example, ...]
    images: UInt8[Tensor, "n channels h w"]
    maps: dict[tuple[str, str], Float[Tensor, "n c _h _w"]]
    test_loss: dict[tuple[str, str], Float[Tensor, "n c"]]
    interps: tuple[str, ...]
    interval: tuple[float, float]


def choose(explained: Table, trained: str, interval: Sequence[float], total: int, large: bool) -> dict[int, list[str]]:
    """Choose the example images.

    Args:
        explained: a row for each measured image.
        trained: name of the interpreter whose test losses rank the images; degenerate heatmaps (NaN) rank as worst.
        interval: test losses that count as fooled.
        total: number of test images or composites.
        large: whether the images are so large that fewer are chosen.

    Returns:
        the roles of each chosen image (one can have several), by its index.
    """
    names = [f"test_loss/{trained}/manipulated{end}" for end in ("", *(f"/{which}" for which in PAIR))]
    loss = torch.stack([explained[name].double() for name in names if name in explained]).mean(dim=0)
    order = explained["index"][(loss if lower_is_better(interval) else -loss).argsort(stable=True)].tolist()
    count = min(OF_A_KIND[large], len(order))
    middle = (len(order) - count) // 2
    fixed = torch.randperm(total, generator=torch.Generator().manual_seed(CHOICE))[: FIXED[large]].tolist()
    chosen: dict[int, list[str]] = {}
    parts = (order[:count], order[middle : middle + count], order[-count:], fixed)
    for role, indices in zip(ROLES, parts, strict=True):
        for index in indices:
            chosen.setdefault(index, []).append(role)
    return chosen


def lower_is_better(interval: Sequence[float]) -> bool:
    """Tell whether a fooling aims at low test losses: those that count as fooled then begin at 0.

    >>> lower_is_better((0, 0.2)), lower_is_better((0.5, 2))
    (True, False)
    """
    return interval[0] <= 0


@torch.no_grad()
def write_examples(folder: Path, setup: Setup, manipulated: nn.Module, explained: Table) -> None:
    """Keep a few test images with the heatmaps of both networks in a run's folder.

    Each network runs once for all interpreters. The file stays below 1 MB, except for heatmaps at the images: at 224
    pixels they take 1.2 MB for each such interpreter.

    Args:
        folder: of the run.
        setup: what was compared, and how.
        manipulated: the manipulated network, on the original's device.
        explained: the rows of the images whose heatmaps were measured.
    """
    data, interval, labels = setup.explained, setup.fooling.interval, setup.data.labels
    interpreters = list(setup.interpreters.values())
    first = data[0].image
    chosen = choose(explained, setup.trained.name, interval, len(data), min(first.shape[-2:]) > LARGE)
    batch = take(data, list(chosen))
    networks = {"original": setup.original, "manipulated": manipulated}
    pair = record_pair(networks, batch.image, batch.label, interpreters, setup.settings.target)
    tensors = {"images": (setup.data.input.pixels(batch.image) * 255).round().to(torch.uint8)}
    for interp in interpreters:
        maps = pair.maps(interp)
        compared = pair.compared(interp, setup.fooling, maps["original"])
        for name, found in maps.items():
            loss = setup.fooling.test_loss(found, compared)
            if pair.targets.dim() == 1:
                found, loss = found[:, None], loss[:, None]
            tensors[f"maps/{interp.name}/{name}"] = found.half().contiguous()
            tensors[f"test_loss/{interp.name}/{name}"] = loss.float().contiguous()

    probabilities = {name: logits.float().softmax(dim=1) for name, logits in pair.logits.items()}
    rows = []
    for row, (index, roles) in enumerate(chosen.items()):
        predictions = {}
        for name, found in probabilities.items():
            confidence, prediction = found[row].max(dim=0)
            predictions[name] = (labels[int(prediction)], round(confidence.item(), 4))
        own, classes = (
            tuple(labels[c] for c in values[row].reshape(-1).tolist()) for values in (batch.label, pair.targets)
        )
        kind = "composite" if batch.label.dim() == 2 else "image"
        example = Example(index, kind, data.path(index), " and ".join(own), classes, predictions, tuple(roles))
        rows.append(asdict(example))
    about = {"rows": rows, "interps": list(setup.interpreters), "interval": list(interval)}
    save_file(tensors, folder / EXAMPLES, {"about": json.dumps(about)})


def read_examples(folder: Path) -> Examples | None:
    """Read the examples in a run's folder; None where there are none, or where the file is damaged or too large."""
    try:
        path = stored_file(folder, EXAMPLES)
        if path.stat().st_size > LARGEST:
            return None
        with safe_open(path, "pt") as file:
            about = clean_texts(json.loads(file.metadata()["about"]))
            tensors = {printable(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        found = _examples(about, tensors)
        return found if _fit(found) else None
    except (AdvfoolError, OSError, SafetensorError, RecursionError, LookupError, TypeError, ValueError, AttributeError):
        return None


def _examples(about: dict[str, Any], tensors: dict[str, Tensor]) -> Examples:
    by_kind: dict[str, dict] = {"maps": {}, "test_loss": {}}
    for name, values in tensors.items():
        kind, _, rest = name.partition("/")
        if kind in by_kind:
            interp, _, network = rest.rpartition("/")
            by_kind[kind][interp, network] = values
    return Examples(
        tuple(_example(row) for row in about["rows"]),
        tensors["images"],
        by_kind["maps"],
        by_kind["test_loss"],
        tuple(about["interps"]),
        tuple(about["interval"]),
    )


def _fit(found: Examples) -> bool:
    """Test whether the parts of the examples have the types and shapes that belong together."""
    images, n, pairs = found.images, len(found.rows), [(i, name) for i in found.interps for name in NETWORKS]
    texts = [text for row in found.rows for text in (row.kind, row.label, *row.explained, *row.roles)]
    said = [row.predictions[name] for row in found.rows for name in NETWORKS]
    ends = [*found.interval, *(share for _, share in said)]
    return (
        n > 0
        and bool(found.interps)
        and all(isinstance(text, str) for text in [*texts, *found.interps, *(label for label, _ in said)])
        and all(isinstance(row.index, int) and isinstance(row.path, str | None) for row in found.rows)
        and len(found.interval) == 2
        and all(isinstance(end, int | float) and isfinite(end) for end in ends)
        and images.dtype == torch.uint8
        and images.dim() == 4
        and len(images) == n
        and images.numel() > 0
        and all(_map_fits(found, pair, n) for pair in pairs)
    )


def _map_fits(found: Examples, pair: tuple[str, str], n: int) -> bool:
    maps, losses = found.maps[pair], found.test_loss[pair]
    kinds = maps.is_floating_point() and losses.is_floating_point() and bool(maps.isfinite().all())
    classes = {len(row.explained) for row in found.rows}
    return kinds and maps.dim() == 4 and maps.numel() > 0 and {maps.shape[:2]} == {losses.shape} == {(n, *classes)}


def _example(row: dict[str, Any]) -> Example:
    """Restore a row from JSON, which has no tuples."""
    predictions = {name: (label, confidence) for name, (label, confidence) in row["predictions"].items()}
    tuples = {key: tuple(row[key]) for key in ("explained", "roles")}
    restored: dict[str, Any] = {**row, **tuples, "predictions": predictions}
    return Example(**restored)
