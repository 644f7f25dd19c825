"""Data sets: the embedded digits, and folders of photos."""

from advfool.data.base import DataModule, InputFormat, Sample
from advfool.data.digits import DigitsModule
from advfool.data.folders import FolderModule, Imagenet, Imagenette

__all__ = ["DataModule", "DigitsModule", "FolderModule", "Imagenet", "Imagenette", "InputFormat", "Sample"]
