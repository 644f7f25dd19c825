"""What every data set shares: the sample, the input format, and a data module with three splits."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pytorch_lightning import LightningDataModule
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate

from advfool.errors import AdvfoolError

NO_BOX = (-1.0, -1.0, -1.0, -1.0)


class Sample(NamedTuple):
    """One image or, collated, a batch of them.

    image: normalised, (3, h, w). label: index among the network's classes; a composite has two, (2,).
    index: position in its split. box: the object's ground truth (top, left, bottom, right) in pixels, bottom and
    right excluded, -1 where unknown; a composite has two boxes for each of its classes, (2, 2, 4).
    """

    image: Float[Tensor, "*n 3 h w"]
    label: Int[Tensor, "*shape"]
    index: Int[Tensor, "*n"]
    box: Float[Tensor, "*shape 4"]


class Samples(Dataset, ABC):
    """Abstract: a data set of `Sample`s. `varies`: whether an image differs from look to look (augmentation)."""

    varies = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def labels(self) -> Int[Tensor, "n *two"]:
        """The label of every sample, without reading images."""

    @abstractmethod
    def digest(self, indices: Sequence[int] | None = None) -> str:
        """A hash of the content: of all that decides what the images (or those at `indices`) are, and of no name."""

    def path(self, index: int) -> str | None:
        """The file a sample comes from, if it comes from one."""
        return None


def some_of(total: int, count: int | None, seed: int = 0) -> list[int]:
    """The places of `count` (None: all) of so many images, in order: drawn at random, as a data set may be sorted."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values.tolist()


def take(data: Samples, indices: Sequence[int]) -> "Sample":
    """The samples at these positions as one batch."""
    if hasattr(data, "__getitems__"):
        return collate(data.__getitems__(list(indices)))
    return collate([data[index] for index in indices])


@dataclass(frozen=True)
class InputFormat:
    """How a network wants its images: square side and resize side in pixels, mean and std of [0, 1] pixels."""

    size: int
    resize: int
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))

    def normalise(self, pixels: Float[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n 3 h w"]:
        """Pixels in [0, 1] to the network's input space."""
        return (pixels - self._channel(self.mean, pixels)) / self._channel(self.std, pixels)

    def pixels(self, images: Float[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n 3 h w"]:
        """The network's input back to pixels, clipped to [0, 1]."""
        return (images * self._channel(self.std, images) + self._channel(self.mean, images)).clamp(0, 1)

    def pixel_range(self) -> tuple[list[float], list[float]]:
        """What black and white are for the network, by channel."""
        black, white = (self.normalise(torch.full((3, 1, 1), x)).flatten().tolist() for x in (0.0, 1.0))
        return black, white

    @staticmethod
    def _channel(values: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def collate(batch: Sample | list[Sample]) -> Sample:
    """Stacks samples, unless the data set has already read a whole batch at once."""
    return batch if isinstance(batch, Sample) else default_collate(batch)


class Order(DistributedSampler):
    """This process's share of the samples, in whole batches, pass after pass, each in a new random order.

    The order depends on the seed and the pass alone. A turn is so many batches: those of one pass, or `batches`,
    wherever passes end. Each comes `replays` times in a row. A training that was interrupted goes on in `turn` after
    `skip` of them.
    """

    def __init__(self, data: Samples, batch_size: int, seed: int, replays: int = 1, batches: int | None = None) -> None:
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        super().__init__(data, _processes(), rank, shuffle=True, seed=seed, drop_last=True)
        self.batch_size, self.replays = batch_size, replays
        self.in_a_pass = self.num_samples // batch_size
        self.batches = batches or self.in_a_pass
        self.turn, self.skip = 0, 0

    def __iter__(self) -> Iterator[int]:
        first = self.turn * self.batches
        begin, end = first // self.in_a_pass, (first + self.batches - 1) // self.in_a_pass
        stream = torch.cat([self._pass(number) for number in range(begin, end + 1)])[first % self.in_a_pass :]
        repeated = stream[: self.batches].repeat_interleave(self.replays, dim=0)
        return iter(repeated[self.skip :].flatten().tolist())

    def __len__(self) -> int:
        return self.batches * self.batch_size * self.replays

    def _pass(self, number: int) -> Int[Tensor, "b n"]:
        self.set_epoch(number)  # (Lightning sets its own count, which turns are not)
        return torch.tensor(list(super().__iter__()))[: self.in_a_pass * self.batch_size].view(-1, self.batch_size)


class ShuffledLoader(DataLoader):
    """A loader for training that goes on, after an interruption, with the batch that would have come next.

    Lightning keeps its `state_dict` in checkpoints.
    """

    def __init__(
        self, data: Samples, batch_size: int, seed: int, replays: int = 1, batches: int | None = None, **kwargs
    ) -> None:
        order = Order(data, batch_size, seed, replays, batches)
        generator = torch.Generator().manual_seed(seed)  # else every pass would draw from the global one
        super().__init__(data, batch_size, sampler=order, generator=generator, **kwargs)
        self.turn, self.seen, self.resumed = -1, 0, False

    def __iter__(self) -> Iterator[Sample]:
        if not self.resumed or self.seen == len(self):
            self.turn, self.seen = self.turn + 1, 0
        self.resumed = False
        self.sampler.turn, self.sampler.skip = self.turn, self.seen
        for batch in super().__iter__():
            self.seen += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"turn": self.turn, "seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.turn, self.seen, self.resumed = state["turn"], state["seen"], True


class DataModule(LightningDataModule):
    """Abstract: three splits of `Sample`s and the names of the classes their labels index.

    `classes` are the names of the network's outputs that the labels count (digits, folder names or wnids),
    `labels` the words shown to people, `input` how the images are made. `selection()` is what early stopping and the
    choice of checkpoints see;
    it never shares an image with `test()`. `pair` are the classes that active fooling swaps where it names none. Each
    training batch is served `replays` times in a row.
    """

    classes: tuple[str, ...]
    labels: tuple[str, ...]
    input: InputFormat
    has_boxes = False
    replays = 1

    def __init__(
        self,
        batch_size: int,
        eval_batch_size: int,
        workers: int,
        seed: int,
        pair: Sequence[int | str] | None = None,
        **limits: int | None,
    ) -> None:
        super().__init__()
        self.pair = tuple(pair or (None, None))
        if len(self.pair) != 2:
            raise AdvfoolError(f"data.pair must be two classes, by index or name, or null, got {list(self.pair)}.")
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size), *limits.items()):
            if value is not None and value < 1:
                raise AdvfoolError(f"data.{name} must be at least 1, got {value}")
        self.limits = {"train": limits.get("limit_train")}
        self.limits |= {"selection": limits.get("limit_val"), "test": limits.get("limit_test")}
        self.batch_size, self.eval_batch_size, self.workers, self.seed = batch_size, eval_batch_size, workers, seed

    @abstractmethod
    def train(self) -> Samples: ...

    @abstractmethod
    def selection(self) -> Samples: ...

    @abstractmethod
    def test(self) -> Samples: ...

    def plain_train(self) -> Samples:
        """The training images without augmentation."""
        return self.train()

    def train_dataloader(self) -> DataLoader:
        return self.shuffled(self.train(), self.batch_size)

    def val_dataloader(self) -> DataLoader:
        return self.in_order(self.selection())

    def test_dataloader(self) -> DataLoader:
        return self.in_order(self.test())

    def shuffled(self, data: Samples, batch_size: int, batches: int | None = None) -> ShuffledLoader:
        """A loader for training, of full batches: those of a pass, or so many. Order and augmentation by the seed."""
        share = max(len(data) // _processes(), 1)
        options = {"replays": self.replays, "batches": batches, **self._workers()}
        return ShuffledLoader(data, min(batch_size, share), self.seed, **options)

    def in_order(self, data: Dataset) -> DataLoader:
        """A loader for measuring: every image once, in the data set's order, shared out among the processes.

        Processes get numbers of images that differ by one at most; none is repeated to make them equal.

        Raises:
            AdvfoolError: there are more processes than images.
        """
        processes = _processes()
        if processes > len(data):
            raise AdvfoolError(
                f"{processes} processes cannot share {len(data)} images to measure on. Use fewer (trainer.devices), "
                "or more images (data.limit_val, data.limit_test, fsr_images)."
            )
        sampler = UnrepeatedDistributedSampler(data, shuffle=False) if processes > 1 else None
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(data, self.eval_batch_size, sampler=sampler, generator=generator, **self._workers())

    def _workers(self) -> dict:
        return {"num_workers": self.workers, "persistent_workers": self.workers > 0, "collate_fn": collate}


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1
