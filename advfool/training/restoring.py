"""Errors of a training that is resumed from a checkpoint whose content does not fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from advfool.utilities.errors import AdvfoolError, first_line
from advfool.utilities.text import shortened


@contextmanager
def restoring(trainer: Trainer, checkpoint: Path | None) -> Iterator[None]:
    """Put what goes wrong before the first step of a resumed training down to its checkpoint.

    Lightning and torch take the content of a checkpoint as it is, so they raise errors of any kind.

    Args:
        trainer: that resumes the training meanwhile.
        checkpoint: that it is resumed from; None: it is not, and errors stay as they are.

    Raises:
        AdvfoolError: the checkpoint does not fit.
    """
    if checkpoint is None:
        yield
        return
    first = _FirstStep()
    trainer.callbacks.append(first)  # type: ignore[attr-defined]
    try:
        yield
    except (AdvfoolError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if first.taken:
            raise
        raise unfit(checkpoint, error) from error
    finally:
        trainer.callbacks.remove(first)  # type: ignore[attr-defined]


def unfit(checkpoint: Path, error: Exception) -> AdvfoolError:
    """Say that a training cannot be resumed from a checkpoint.

    Args:
        checkpoint: its path.
        error: what went wrong.
    """
    return AdvfoolError(
        f"resume: the training cannot be resumed from '{checkpoint}': its content does not fit "
        f"({type(error).__name__}: {shortened(first_line(error))}). Expected a checkpoint that this version of advfool "
        "has written for this run. Start the run anew, in another folder and without resume."
    )


class _FirstStep(Callback):
    """Note that a training has taken a step."""

    taken = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.taken = True
