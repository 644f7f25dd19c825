"""TensorBoard: scalars, pictures, and the runs of a folder compared in its HParams tab."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from advfool.training.loggers.base import Dashboard, ReportWriter, require, scalars
from advfool.utilities.kinds import Text


class TensorBoard(Dashboard, TensorBoardLogger):
    """Writes TensorBoard's event files to FOLDER/tensorboard.

    Args:
        folder: of the run.
        kwargs: further arguments of Lightning's TensorBoardLogger.

    Raises:
        AdvfoolError: tensorboard is not installed.
    """

    def __init__(self, folder: Text, **kwargs) -> None:
        require("tensorboard")
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False, **kwargs)

    def show_config(self, config: dict) -> None:
        self.log_hyperparams(config)  # TensorBoard wants them together with the results, which come at the end

    def show_picture(self, path: Path, step: int) -> None:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self.experiment.add_image(f"pictures/{path.stem}", pixels, step, dataformats="HWC")

    def show_results(self, folder: Path, metrics: Mapping, step: int, write_report: ReportWriter | None) -> None:
        self.show_pictures(folder, step)
        self.log_hyperparams(self.hparams, scalars(metrics), step)
        self.experiment.close()
