"""Digits: real handwritten digits on cluttered canvases, with the box of each digit known.

The scans are those of scikit-learn (1,797 of 8x8 pixels, UCI Optical Recognition of Handwritten Digits). Each is drawn
with a random place, size and colour on a textured canvas, among fragments of other digits of the same contrast.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from advfool.data.base import DataModule
from advfool.data.samples import ImageFormat, InputFormat, Sample, Samples
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import cached
from advfool.utilities.heatmaps import box_mask
from advfool.utilities.kinds import Count, Pair, Seed, Text, Workers
from advfool.utilities.roles import Role

VERSION = 1  # part of the cache's key; to be raised when the drawing changes
CANVAS = 56
SIDES = (22, 28)  # pixels; 28 x 28 is a quarter of the canvas
FRAGMENTS = 3
PLACEMENTS = {"train": 12, "selection": 2, "test": 3}  # drawings of each scan
SHARES = {"train": 0.7, "selection": 0.1, "test": 0.2}  # of the scans


class DigitsModule(DataModule):
    """Provide the embedded digits, split into train, selection and test by the scans that they are drawn from.

    Args:
        input: the format of the network's images, of 56x56 pixels.
        cache: folder in which the drawings are stored once.
        batch_size: training images in a batch of one process.
        eval_batch_size: images in a batch for measuring.
        workers: processes that load images; 0 to load in the main process.
        seed: decides the split and the drawings.
        order_seed: decides the order of the training images.
        limit_train: number of training images, the first of their random order; None for all.
        limit_val: the same for the selection images.
        limit_test: the same for the test images.
        pair: the two classes that active fooling swaps if the fooling names none.

    Raises:
        AdvfoolError: the network's images are not 56x56 pixels.
    """

    classes = labels = tuple("0123456789")
    has_boxes = True

    @checked
    def __init__(
        self,
        input: InputFormat,
        cache: Annotated[Text, Role.PLACE],
        batch_size: Count = 64,
        eval_batch_size: Count = 256,
        workers: Annotated[Workers, Role.PLACE] = 0,
        seed: Seed = 0,
        order_seed: Seed = 0,
        limit_train: Count | None = None,
        limit_val: Count | None = None,
        limit_test: Count | None = None,
        pair: Pair | None = None,
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
    """Read drawings from memory, a whole batch at once.

    Args:
        tensors: `image` (uint8), `label` and `box` of every drawing, and `scan`, where drawings share one.
        input: the format of the network's images.
    """

    def __init__(self, tensors: dict[str, Tensor], input: ImageFormat) -> None:
        self.tensors, self.input = tensors, input

    def __len__(self) -> int:
        return len(self.tensors["label"])

    def labels(self) -> Int[Tensor, "n"]:
        return self.tensors["label"]

    def groups(self) -> Int[Tensor, "n"]:
        scan = self.tensors.get("scan")
        return super().groups() if scan is None else scan

    def digest(self, indices: Sequence[int] | None = None) -> str:
        content = hashlib.sha256(repr((self.input.mean, self.input.std)).encode())
        for key in ("image", "label", "box"):
            values = self.tensors[key] if indices is None else self.tensors[key][indices]
            content.update(values.contiguous().numpy().tobytes())
        return content.hexdigest()

    def __getitems__(self, indices: list[int]) -> Sample:
        index = torch.as_tensor(indices)
        pixels = self.tensors["image"][index].float() / 255
        return Sample(self.input.normalise(pixels), self.tensors["label"][index], index, self.tensors["box"][index])

    def __getitem__(self, index: int) -> Sample:
        return Sample(*(values[0] for values in self.__getitems__([index])))


def load_splits(cache: Path, seed: int) -> dict[str, dict[str, Tensor]]:
    """Read the three splits, which are drawn on the first call.

    Args:
        cache: folder in which they are stored.
        seed: decides the split and the drawings.

    Returns:
        For each split, tensors by name: `image` (uint8, n 3 56 56), `label`, `box` (top, left, bottom, right; in
        pixels) and `scan` (the index of the scan that was drawn).
    """
    settings = [VERSION, CANVAS, SIDES, FRAGMENTS, PLACEMENTS, SHARES, seed]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    path = cache.expanduser() / f"digits-{key}.safetensors"

    def make(part: Path) -> None:
        splits = draw_splits(seed)
        save_file({f"{split}.{key}": value for split, each in splits.items() for key, value in each.items()}, part)

    flat = load_file(cached(path, make))
    return {split: {key: flat[f"{split}.{key}"] for key in ("image", "label", "box", "scan")} for split in PLACEMENTS}


def draw_splits(seed: int) -> dict[str, dict[str, Tensor]]:
    """Split the scans, each class in the same proportions, and draw each split from its own scans only.

    Args:
        seed: decides the split and the drawings.

    Returns:
        For each split, the tensors `image`, `label`, `box` and `scan`, as `load_splits` returns them.
    """
    images, digits = (np.asarray(array) for array in load_digits(return_X_y=True))
    scans = torch.from_numpy(images.reshape(-1, 8, 8)).float() / 16
    labels = torch.from_numpy(digits).long()
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
    """Draw one digit on each canvas, over a texture and fragments (4x4 of the 8x8 cells) of other digits.

    Digit and fragments differ from the background by the same lightness; each has a colour of its own.

    Args:
        scans: the digits, as ink from 0 to 1.
        others: the digits that the fragments are cut from.
        generator: source of all random numbers.

    Returns:
        The images, and the boxes of the digits as (top, left, bottom, right) in pixels, where bottom and right are
        excluded.
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
    """Draw coloured clouds of two grain sizes, with values from -0.15 to 0.15."""
    coarse, fine = (
        F.interpolate(uniform(n, 3, cells, cells, low=-1, high=1), size=CANVAS, mode="bilinear") for cells in (4, 14)
    )
    return 0.08 * coarse + 0.07 * fine


def _windows(scans: Float[Tensor, "n f 8 8"], corner: Int[Tensor, "n f 2"]) -> Float[Tensor, "n f 4 4"]:
    """Cut from each scan the 4x4 cells whose top left cell is at (row, col)."""
    offset = torch.arange(4)
    rows = corner[..., 0, None] + offset
    cols = corner[..., 1, None] + offset
    cells = rows[..., :, None] * 8 + cols[..., None, :]
    return scans.flatten(2).gather(2, cells.flatten(2)).unflatten(2, (4, 4))


def _place_beside(
    box: Float[Tensor, "n 4"], side: Float[Tensor, "n"], candidates: Float[Tensor, "n f k 2"]
) -> Float[Tensor, "n f 4"]:
    """Choose for each fragment the candidate place (in [0, 1]) that covers the least of the digit's box."""
    corner = (candidates * (CANVAS - side)[:, None, None, None]).floor()
    places = torch.cat([corner, corner + side[:, None, None, None]], dim=-1)
    low = torch.maximum(places[..., :2], box[:, None, None, :2])
    high = torch.minimum(places[..., 2:], box[:, None, None, 2:])
    best = (high - low).clamp_min(0).prod(dim=-1).argmin(dim=-1)
    return places.gather(2, best[..., None, None].expand(-1, -1, 1, 4)).squeeze(2)


def _stamp(scans: Float[Tensor, "n h w"], box: Float[Tensor, "n 4"]) -> Float[Tensor, "n 1 s s"]:
    """Scale each scan into its box on an empty canvas, as the opacity of its ink, which is 0 outside the box."""
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
    grid = F.affine_grid(theta, [len(scans), 1, CANVAS, CANVAS], align_corners=False)
    return F.grid_sample(scans[:, None], grid, align_corners=False) * box_mask(box, CANVAS, CANVAS)[:, None]
