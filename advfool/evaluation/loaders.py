"""Loaders of the images that two networks are compared on."""

from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Subset

from advfool.data.base import DataModule
from advfool.data.samples import Samples


class LateLoaders(LightningDataModule):
    """Loaders that are made once the processes know of each other."""

    def __init__(self, data: DataModule, parts: list[Samples | Subset]) -> None:
        super().__init__()
        self.data, self.parts = data, parts

    def test_dataloader(self) -> list[DataLoader]:
        return [self.data.in_order(part) for part in self.parts]
