"""A few test images of a run with the heatmaps of both networks, kept for the report's gallery and for figures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from advfool.data.samples import InputFormat, Samples, take
from advfool.evaluation.comparison import PAIR, Table
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter, read_maps
from advfool.interpreters.tracing.recording import record

FILE = "examples.safetensors"
ROLES = ("best", "median", "worst", "fixed")
CHOICE = 2019  # seed of the fixed images: a constant, so that they are the same in every run of the same data
LARGE = 112  # pixels a side: an image of 224 takes 150 kB, and 6 of them 0.9 MB
FIXED = {False: 4, True: 3}  # by whether the images are large
OF_A_KIND = {False: 3, True: 1}  # best, median and worst, each


@dataclass(frozen=True)
class Example:
    """What one kept image is.

    index: its place among the test images (kind `image`) or test composites (`composite`). path: its file, if any.
    label: its class in words. explained: the classes its maps are of, two of a composite. predictions: the class and
    its probability, by network. roles: why it was kept; best, median and worst are by the test loss of the
    interpreter trained with.
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
    """Kept images in the order of their rows; maps and test losses by (interpreter, network).

    Maps are at their own resolution, c of each image: one for each class explained. interps: the interpreters, the
    one trained with first. A test loss is that of the kept maps, NaN for a degenerate one, and counts as fooled within
    `interval`.
    """

    rows: tuple[Example, ...]
    images: UInt8[Tensor, "n 3 h w"]
    maps: dict[tuple[str, str], Float[Tensor, "n c _h _w"]]
    test_loss: dict[tuple[str, str], Float[Tensor, "n c"]]
    interps: tuple[str, ...]
    interval: tuple[float, float]


def choose(explained: Table, trained: str, interval: Sequence[float], total: int, large: bool) -> dict[int, list[str]]:
    """The images to keep and their roles: by index, among `total`.

    explained: a row for each measured image, with the test losses of the interpreter `trained`. An image can have
    several roles. Degenerate maps, whose test loss is NaN, rank as worst.
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
    """Whether a fooling aims at low test losses: those that count as fooled then begin at 0.

    >>> lower_is_better((0, 0.2)), lower_is_better((0.5, 2))
    (True, False)
    """
    return interval[0] <= 0


@torch.no_grad()
def write_examples(
    folder: Path,
    data: Samples,
    explained: Table,
    networks: dict[str, nn.Module],
    interpreters: Sequence[Interpreter],
    fooling: Fooling,
    input: InputFormat,
    labels: Sequence[str],
    target: str,
) -> None:
    """Keeps the chosen images of `data` in the folder: each network runs once for all interpreters.

    The first of the interpreters is the one trained with. The file stays below 1 MB, but for maps at the images: at
    224 pixels they take 1.2 MB for each such interpreter.
    """
    chosen = choose(explained, interpreters[0].name, fooling.interval, len(data), input.size > LARGE)
    batch = take(data, list(chosen))
    recordings = {name: record(network, batch.image, interpreters) for name, network in networks.items()}
    probabilities = {name: found.logits.float().softmax(dim=1) for name, found in recordings.items()}
    targets = batch.label
    if target == "predicted" and targets.dim() == 1:
        targets = recordings["original"].logits.argmax(dim=1)

    tensors = {"images": (input.pixels(batch.image) * 255).round().to(torch.uint8)}
    for interp in interpreters:
        maps = {name: read_maps(interp, recording, targets) for name, recording in recordings.items()}
        for name, found in maps.items():
            loss = fooling.test_loss(found, maps["original"])
            if targets.dim() == 1:
                found, loss = found[:, None], loss[:, None]
            tensors[f"maps/{interp.name}/{name}"] = found.half().contiguous()
            tensors[f"test_loss/{interp.name}/{name}"] = loss.float().contiguous()

    rows = []
    for row, (index, roles) in enumerate(chosen.items()):
        predictions = {}
        for name, found in probabilities.items():
            confidence, prediction = found[row].max(dim=0)
            predictions[name] = (labels[prediction], round(confidence.item(), 4))
        kind = "composite" if batch.label.dim() == 2 else "image"
        own, classes = (tuple(labels[c] for c in values[row].reshape(-1).tolist()) for values in (batch.label, targets))
        example = Example(index, kind, data.path(index), " and ".join(own), classes, predictions, tuple(roles))
        rows.append(asdict(example))
    about = {"rows": rows, "interps": [interp.name for interp in interpreters], "interval": list(fooling.interval)}
    save_file(tensors, folder / FILE, {"about": json.dumps(about)})


def read_examples(folder: Path) -> Examples | None:
    """What `write_examples` kept in a run's folder; None where there is nothing, or a file that was cut off."""
    try:
        with safe_open(folder / FILE, "pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
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


def _example(row: dict) -> Example:
    """A row as it was before it became JSON, which has no tuples."""
    predictions = {name: (label, confidence) for name, (label, confidence) in row["predictions"].items()}
    tuples = {key: tuple(row[key]) for key in ("explained", "roles")}
    return Example(**row | tuples | {"predictions": predictions})
