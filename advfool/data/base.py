"""The abstract data module: three splits of samples and the names of their classes."""

from abc import abstractmethod

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, Subset

from advfool.data.loaders import Seeded, ShuffledLoader, process_count
from advfool.data.samples import ImageFormat, Samples, collate
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count, Pair, Seed, Workers


class DataModule(LightningDataModule):
    """Provide three splits of `Sample`s and the names of their classes (abstract).

    Early stopping and the choice of checkpoints use the split `selection()`, which shares no image with `test()`.

    Attributes:
        classes: names of the classes, in the order of the network's outputs (digits, folder names or wnids).
        labels: the words for the classes that people are shown.
        input: the format of the images.
        has_boxes: whether the samples state the box of their object.
        has_labels: whether the samples have labels of their own; without them all labels are 0.
        replays: how many times in a row each training batch is served.

    Args:
        batch_size: training images in a batch of one process.
        eval_batch_size: images in a batch for measuring.
        workers: processes that load images; 0 to load in the main process.
        seed: decides the order and the augmentation of the training images.
        pair: the two classes, by index or name, that active fooling swaps if the fooling names none.
        limits: `limit_train`, `limit_val` and `limit_test`: the largest number of images of the splits train,
            selection and test; None for all.

    Raises:
        AdvfoolError: a size or limit is below 1, or `pair` is not two classes.
    """

    classes: tuple[str, ...]
    labels: tuple[str, ...]
    input: ImageFormat
    has_boxes = False
    has_labels = True
    replays = 1

    @checked
    def __init__(
        self,
        batch_size: Count,
        eval_batch_size: Count,
        workers: Workers,
        seed: Seed,
        pair: Pair | None = None,
        **limits: Count | None,
    ) -> None:
        super().__init__()
        self.pair = tuple(pair or (None, None))
        self.limits = {"train": limits.get("limit_train")}
        self.limits |= {"selection": limits.get("limit_val"), "test": limits.get("limit_test")}
        self.batch_size, self.eval_batch_size, self.workers, self.seed = batch_size, eval_batch_size, workers, seed

    @abstractmethod
    def train(self) -> Samples:
        """Return the training images, with augmentation if the data set has any."""

    @abstractmethod
    def selection(self) -> Samples:
        """Return the images that early stopping and the choice of checkpoints use."""

    @abstractmethod
    def test(self) -> Samples:
        """Return the images that the results are measured on."""

    def plain_train(self) -> Samples:
        """Return the training images without augmentation."""
        return self.train()

    def train_dataloader(self) -> DataLoader:
        return self.shuffled(self.train(), self.batch_size)

    def val_dataloader(self) -> DataLoader:
        return self.in_order(self.selection())

    def test_dataloader(self) -> DataLoader:
        return self.in_order(self.test())

    def shuffled(self, data: Samples, batch_size: int, batches: int | None = None) -> ShuffledLoader:
        """Create a loader for training, which gives full batches; the seed decides order and augmentation.

        Args:
            data: the samples to load.
            batch_size: samples in a batch; fewer if this process's share of the data has fewer.
            batches: batches in one iteration, not counting replays; None for those of one pass over the data.
        """
        share = max(len(data) // process_count(), 1)
        options = {"replays": self.replays, "batches": batches, **self._workers()}
        return ShuffledLoader(data, min(batch_size, share), self.seed, **options)

    def in_order(self, data: Samples | Subset) -> DataLoader:
        """Create a loader for measuring, which gives every image once, in the order of the data set.

        Where images vary each time they are read, they are drawn by the seed, the same each time.
        Several processes share the images without repeating any, so their numbers of images may differ by one.

        Args:
            data: samples, or a `Subset` of samples.

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
        options = {"generator": torch.Generator().manual_seed(self.seed), **self._workers()}
        return DataLoader(Seeded(data, self.seed), self.eval_batch_size, sampler=sampler, **options)

    def _workers(self) -> dict:
        return {"num_workers": self.workers, "persistent_workers": self.workers > 0, "collate_fn": collate}
