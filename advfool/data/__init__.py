"""Data sets: the embedded digits, and folders of photos."""

from advfool.data.base import DataModule
from advfool.data.digits import DigitsModule
from advfool.data.folders import FolderModule, Imagenet, Imagenette
from advfool.data.samples import InputFormat, Sample

__all__ = ["DataModule", "DigitsModule", "FolderModule", "Imagenet", "Imagenette", "InputFormat", "Sample"]
