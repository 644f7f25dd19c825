"""The trainer of fine-tunings that no configuration describes: those from Python, and those of an audit."""

from collections.abc import Sequence

import pytorch_lightning as pl
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from advfool.training.callbacks import StepProgressBar
from advfool.utilities.runtime import quieten


def steps_trainer(
    folder: str,
    steps: int,
    validate_every: int,
    callbacks: Sequence[Callback],
    clip: float | None,
    accelerator: str,
    progress: bool,
) -> Trainer:
    """Make a trainer of a number of steps, on one device.

    Args:
        folder: where checkpoints go, if a callback keeps any.
        steps: of the training.
        validate_every: steps between two validations.
        callbacks: besides the progress bar.
        clip: norm that a step's gradient is scaled down to; None: not clipped.
        accelerator: Lightning's word for the device.
        progress: whether a progress bar is shown.
    """
    quieten()
    return pl.Trainer(
        default_root_dir=folder,
        accelerator=accelerator,
        devices=1,
        max_steps=steps,
        val_check_interval=validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        inference_mode=False,
        logger=False,
        deterministic="warn",
        gradient_clip_val=clip,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=progress,
        callbacks=[*callbacks, StepProgressBar()] if progress else list(callbacks),
    )
