"""The abstract data module: three splits of samples and the names of their classes."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, Dataset

from advfool.data.loaders import ShuffledLoader, process_count
from advfool.data.samples import InputFormat, Samples, collate
from advfool.utilities.errors import AdvfoolError


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
        share = max(len(data) // process_count(), 1)
        options = {"replays": self.replays, "batches": batches, **self._workers()}
        return ShuffledLoader(data, min(batch_size, share), self.seed, **options)

    def in_order(self, data: Dataset) -> DataLoader:
        """A loader for measuring: every image once, in the data set's order, shared out among the processes.

        Processes get numbers of images that differ by one at most; none is repeated to make them equal.

        Raises:
            AdvfoolError: there are more processes than images.
        """
        processes = process_count()
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
