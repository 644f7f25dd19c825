"""Callbacks that runs of the tests name in their configuration."""

import os

import pytorch_lightning as pl
import torch

from advfool.training.adversarial import FreeAdversarialTraining
from advfool.utilities.roles import Role


class KeepDelta(pl.Callback):
    """Of every process."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_end(self, trainer, module):
        (callback,) = (found for found in trainer.callbacks if isinstance(found, FreeAdversarialTraining))
        torch.save(callback.delta, f"{self.folder}/{trainer.global_rank}.pt")


class Interrupt(pl.Callback):
    """Ctrl-C during the training, at the step that the environment says: no setting of the run."""

    role = Role.SHOWN

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if str(trainer.global_step) == os.environ.get("INTERRUPT_AT"):
            raise KeyboardInterrupt


INTERRUPT = "+callbacks.interrupt._target_=tests.helpers.callbacks.Interrupt"
