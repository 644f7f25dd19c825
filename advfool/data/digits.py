"""Digits: real handwritten digits on cluttered canvases, with the box of each digit known.

The scans are scikit-learn's (1,797 of 8x8 pixels, UCI Optical Recognition of Handwritten Digits). Each is drawn
at a random place, size and colour on a textured canvas, among fragments of other digits in equally strong colours.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from filelock import FileLock
from jaxtyping import Float, Int, UInt8
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from advfool.data.base import DataModule
from advfool.data.samples import InputFormat, Sample, Samples
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import box_mask

VERSION = 1  # part of the cache's key: raise it when the drawing changes
CANVAS = 56
SIDES = (22, 28)  # pixels; 28 x 28 is a quarter of the canvas
FRAGMENTS = 3
PLACEMENTS = {"train": 12, "selection": 2, "test": 3}  # drawings of each scan
SHARES = {"train": 0.7, "selection": 0.1, "test": 0.2}  # of the scans


class DigitsModule(DataModule):
    """The embedded data set: train, selection and test split by the source scan, the same for the same seed.

    `limit_*` keep the first so many drawings (their order is random and seeded).
    """

    classes = labels = tuple("0123456789")
    has_boxes = True

    def __init__(
        self,
        input: InputFormat,
        cache: str,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        workers: int = 0,
        seed: int = 0,
        order_seed: int = 0,
        limit_train: int | None = None,
        limit_val: int | None = None,
        limit_test: int | None = None,
        pair: Sequence[int | str] | None = None,
    ) -> None:
        limits = {"limit_train": limit_train, "limit_val": limit_val, "limit_test": limit_test}
        super().__init__(batch_size, eval_batch_size, workers, order_seed, pair, **limits)
        if input.size != CANVAS:
            raise AdvfoolError(
                f"data=digits draws {CANVAS}x{CANVAS} images, but the network's input size is {input.size}. "
                "Use one of the tiny networks (model=resnet_tiny, vgg_tiny, densenet_tiny) or other data."
            )
        self.input = input
        self.splits = load_splits(Path(cache), seed)

    def _split(self, name: str) -> "Digits":
        tensors, limit = self.splits[name], self.limits[name]
        return Digits({key: value[:limit] for key, value in tensors.items()}, self.input)

    def train(self) -> Samples:
        return self._split("train")

    def selection(self) -> Samples:
        return self._split("selection")

    def test(self) -> Samples:
        return self._split("test")


class Digits(Samples):
    """Drawings held in memory; a whole batch is read at once."""

    def __init__(self, tensors: dict[str, Tensor], input: InputFormat) -> None:
        self.tensors, self.input = tensors, input

    def __len__(self) -> int:
        return len(self.tensors["label"])

    def labels(self) -> Int[Tensor, "n"]:
        return self.tensors["label"]

    def digest(self, indices: Sequence[int] | None = None) -> str:
        content = hashlib.sha256(repr((self.input.mean, self.input.std)).encode())
        for key in ("image", "label", "box"):
            values = self.tensors[key] if indices is None else self.tensors[key][indices]
            content.update(values.contiguous().numpy())
        return content.hexdigest()

    def __getitems__(self, indices: list[int]) -> Sample:
        index = torch.as_tensor(indices)
        pixels = self.tensors["image"][index].float() / 255
        return Sample(self.input.normalise(pixels), self.tensors["label"][index], index, self.tensors["box"][index])

    def __getitem__(self, index: int) -> Sample:
        return Sample(*(values[0] for values in self.__getitems__([index])))


def load_splits(cache: Path, seed: int) -> dict[str, dict[str, Tensor]]:
    """The three splits, drawn on the first call and read from `cache` afterwards.

    Each split maps `image` (uint8, n 3 56 56), `label`, `box` (top, left, bottom, right) and `scan`
    (the index of the source scan) to tensors.
    """
    settings = [VERSION, CANVAS, SIDES, FRAGMENTS, PLACEMENTS, SHARES, seed]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    path = cache.expanduser() / f"digits-{key}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            splits = draw_splits(seed)
            flat = {f"{split}.{key}": value for split, tensors in splits.items() for key, value in tensors.items()}
            save_file(flat, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
    flat = load_file(path)
    return {split: {key: flat[f"{split}.{key}"] for key in ("image", "label", "box", "scan")} for split in PLACEMENTS}


def draw_splits(seed: int) -> dict[str, dict[str, Tensor]]:
    """Splits the scans by class, then draws each split from its own scans only (fragments included)."""
    digits = load_digits()
    scans = torch.from_numpy(digits.images).float() / 16
    labels = torch.from_numpy(digits.target).long()
    everything = torch.arange(len(labels)).numpy()
    train, rest = train_test_split(everything, train_size=SHARES["train"], stratify=labels, random_state=seed)
    selection_share = SHARES["selection"] / (SHARES["selection"] + SHARES["test"])
    selection, test = train_test_split(rest, train_size=selection_share, stratify=labels[rest], random_state=seed)

    generator = torch.Generator().manual_seed(seed)
    splits = {}
    for name, members in {"train": train, "selection": selection, "test": test}.items():
        scan = torch.from_numpy(members).repeat(PLACEMENTS[name])
        scan = scan[torch.randperm(len(scan), generator=generator)]
        others = torch.from_numpy(members)[torch.randint(len(members), (len(scan), FRAGMENTS), generator=generator)]
        chunks = [draw(scans[a], scans[b], generator) for a, b in zip(scan.split(256), others.split(256), strict=True)]
        image, box = map(torch.cat, zip(*chunks, strict=True))
        splits[name] = {"image": image, "label": labels[scan], "box": box, "scan": scan}
    return splits


def draw(
    scans: Float[Tensor, "n 8 8"], others: Float[Tensor, "n f 8 8"], generator: torch.Generator
) -> tuple[UInt8[Tensor, "n 3 s s"], Float[Tensor, "n 4"]]:
    """Draws one digit a canvas, over a texture and fragments (4x4 of 8x8 cells) of other digits.

    Digit and fragments differ from the background by the same lightness and have colours of their own.

    Returns:
        images, and the digits' boxes (top, left, bottom, right) in pixels, bottom and right excluded.
    """
    n, count = others.shape[:2]

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    side = torch.randint(SIDES[0], SIDES[1] + 1, (n,), generator=generator)
    corner = (uniform(n, 2) * (CANVAS - side + 1)[:, None]).floor()
    box = torch.cat([corner, corner + side[:, None]], dim=1)

    background = uniform(n, 1, low=0.2, high=0.8)
    step = torch.where(background < 0.5, 1.0, -1.0) * uniform(n, 1, low=0.3, high=0.45)
    paint = (background + step)[:, None] + uniform(n, count + 1, 3, low=-0.15, high=0.15)
    canvas = background[..., None, None] + _texture(n, uniform)

    pieces = _windows(others, torch.randint(1, 4, (n, count, 2), generator=generator))
    piece_box = _place_beside(box, side.float() / 2, uniform(n, count, 32, 2))
    for k in range(count):
        canvas = torch.lerp(canvas, paint[:, k, :, None, None], _stamp(pieces[:, k], piece_box[:, k]))
    canvas = torch.lerp(canvas, paint[:, -1, :, None, None], _stamp(scans, box))
    canvas = canvas + 0.03 * torch.randn(canvas.shape, generator=generator)
    return (canvas.clamp(0, 1) * 255).round().to(torch.uint8), box


def _texture(n: int, uniform) -> Float[Tensor, "n 3 s s"]:
    """Coloured clouds of two grain sizes, within +-0.15 of zero."""
    coarse, fine = (
        F.interpolate(uniform(n, 3, cells, cells, low=-1, high=1), size=CANVAS, mode="bilinear") for cells in (4, 14)
    )
    return 0.08 * coarse + 0.07 * fine


def _windows(scans: Float[Tensor, "n f 8 8"], corner: Int[Tensor, "n f 2"]) -> Float[Tensor, "n f 4 4"]:
    """The 4x4 cells of each scan that start at (row, col)."""
    offset = torch.arange(4)
    rows = corner[..., 0, None] + offset
    cols = corner[..., 1, None] + offset
    cells = rows[..., :, None] * 8 + cols[..., None, :]
    return scans.flatten(2).gather(2, cells.flatten(2)).unflatten(2, (4, 4))


def _place_beside(
    box: Float[Tensor, "n 4"], side: Float[Tensor, "n"], candidates: Float[Tensor, "n f k 2"]
) -> Float[Tensor, "n f 4"]:
    """For each fragment the candidate place (in [0, 1]) that covers least of the digit's box."""
    corner = (candidates * (CANVAS - side)[:, None, None, None]).floor()
    places = torch.cat([corner, corner + side[:, None, None, None]], dim=-1)
    low = torch.maximum(places[..., :2], box[:, None, None, :2])
    high = torch.minimum(places[..., 2:], box[:, None, None, 2:])
    best = (high - low).clamp_min(0).prod(dim=-1).argmin(dim=-1)
    return places.gather(2, best[..., None, None].expand(-1, -1, 1, 4)).squeeze(2)


def _stamp(scans: Float[Tensor, "n h w"], box: Float[Tensor, "n 4"]) -> Float[Tensor, "n 1 s s"]:
    """Each scan, scaled into its box on an empty canvas: the opacity of its ink, none of it outside the box."""
    centre, extent = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    scale = CANVAS / extent
    shift = (CANVAS - 2 * centre) / extent
    zero = torch.zeros_like(scale[:, 0])
    theta = torch.stack(
        [
            torch.stack([scale[:, 1], zero, shift[:, 1]], dim=1),
            torch.stack([zero, scale[:, 0], shift[:, 0]], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, (len(scans), 1, CANVAS, CANVAS), align_corners=False)
    return F.grid_sample(scans[:, None], grid, align_corners=False) * box_mask(box, CANVAS, CANVAS)[:, None]
