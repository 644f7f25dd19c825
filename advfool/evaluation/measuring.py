"""The trainer that comparisons run on where no configuration describes one."""

import tempfile

import pytorch_lightning as pl
from pytorch_lightning import Trainer

from advfool.utilities.runtime import quieten


def measuring_trainer(accelerator: str, progress: bool) -> Trainer:
    """Make a trainer that only measures, on one device, and writes nothing."""
    quieten()
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        inference_mode=False,
        default_root_dir=tempfile.gettempdir(),
    )
