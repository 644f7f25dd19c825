"""Lightning callbacks."""

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.trainer.states import TrainerFn

from advfool.errors import Diverged


class StepProgressBar(RichProgressBar):
    """Lightning's rich progress bar for trainings whose length is given in steps, not in epochs."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Pass {current_epoch + 1}, from step {self.trainer.global_step} of {self.trainer.max_steps}"


class DivergenceGuard(Callback):
    """Stops the training when the accuracy on the selection images has fallen too far.

    max_accuracy_drop: fraction of the selection images, against the original network. The fall has to exceed it by
    two standard errors, so that a few unlucky images among a few do not stop a run.
    """

    def __init__(self, max_accuracy_drop: float = 0.1) -> None:
        self.max_accuracy_drop = max_accuracy_drop

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:  # the look at the original network before the start
            return
        top1 = trainer.callback_metrics["val/top1"].item()
        drop = module.original_top1 - top1
        images = len(trainer.val_dataloaders.dataset)
        error = (max(drop, 0.0) * (1 - max(drop, 0.0)) / images) ** 0.5
        if drop - 2 * error > self.max_accuracy_drop:
            raise Diverged(
                f"Training destroyed the classifier: top-1 on the selection images fell from "
                f"{module.original_top1:.1%} to {top1:.1%} by step {trainer.global_step}, more than "
                f"max_accuracy_drop = {self.max_accuracy_drop:.1%}. Lower optimizer.lr or fool_weight, or use "
                "preserve=distillation."
            )
