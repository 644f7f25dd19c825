"""ImageNet, and ten of its classes that can be downloaded (Imagenette)."""

import tarfile
from pathlib import Path
from typing import Annotated, Literal

from advfool.data.folders import FolderModule
from advfool.data.samples import InputFormat
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Text
from advfool.utilities.roles import Role


class Imagenet(FolderModule):
    """Provide ImageNet (ILSVRC 2012) from torchvision's layout or from plain folders `train` and `val`.

    The arguments are those of `FolderModule`.
    """

    layout = "train/WNID/*.JPEG and val/WNID/*.JPEG (torchvision's ImageNet layout), a folder for each class"
    hint = (
        "Give ImageNet's folder: data.root=/path/to/imagenet (or set IMAGENET_ROOT). Without ImageNet, use "
        "data=imagenette, which downloads ten of its classes (about 100 MB)."
    )
    needs_splits = True


class Imagenette(FolderModule):
    """Provide Imagenette: ten classes of ImageNet, labelled with their indices among ImageNet's 1,000 classes.

    Args:
        input: the format of the network's images.
        root: folder into which torchvision downloads the images.
        size: `full`, `320px` or `160px`: the shorter side of the photos.
        download: whether to download the images if they are not there.
        kwargs: further arguments of `FolderModule`.

    Raises:
        AdvfoolError: there is no such size, or the download fails.
    """

    @checked
    def __init__(
        self,
        input: InputFormat,
        root: Annotated[Text | Path, Role.PLACE],
        size: Literal["full", "320px", "160px"] = "160px",
        download: bool = True,
        **kwargs,
    ) -> None:
        from torchvision.datasets import Imagenette as Source

        folder = Path(root).expanduser() / Path(Source._ARCHIVES[size][0]).stem
        if download and not folder.is_dir():
            try:
                Source(root, split="train", size=size, download=True)
            except (OSError, RuntimeError, tarfile.TarError) as error:
                archive = Source._ARCHIVES[size][0]
                raise AdvfoolError(
                    f"Could not download Imagenette: {error}. Fetch {archive} on another machine and unpack it into "
                    f"'{root}', so that '{folder}' exists, or name another folder: data.root=/path."
                ) from error
        super().__init__(input, str(folder), **kwargs)
