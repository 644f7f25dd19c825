"""Data sets: the embedded digits, folders of photos, and data sets of your own."""

from advfool.data.base import DataModule
from advfool.data.digits import DigitsModule
from advfool.data.folders import FolderModule
from advfool.data.imagenet_folders import Imagenet, Imagenette
from advfool.data.samples import ImageFormat, InputFormat, Sample, Samples
from advfool.data.wrapped import WrappedModule, wrap

__all__ = [
    "DataModule",
    "DigitsModule",
    "FolderModule",
    "ImageFormat",
    "Imagenet",
    "Imagenette",
    "InputFormat",
    "Sample",
    "Samples",
    "WrappedModule",
    "wrap",
]
