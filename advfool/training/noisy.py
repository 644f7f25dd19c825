"""A training whose gradients are those of a network with noise on its parameters: it learns to bear the noise."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any

from annotated_types import Len
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from advfool.evaluation.noise import parameter_noise
from advfool.training.module import FoolingModule
from advfool.utilities.checking import checked
from advfool.utilities.kinds import NonNegative, Seed


class ParameterNoise(Callback):
    """Adds Gaussian noise to the parameters for each forward and backward pass, and takes it away before the step.

    The noise is that of `parameter_noise`; its seed follows the step, so a resumed training draws the same. A network
    that was fooled in this way keeps its accuracy and its fooling under such noise.

    Args:
        levels: standard deviations of the noise as multiples of each tensor's own; the steps take turns.
        seed: of the noise.

    Source: the weight noise of An 1996, "The effects of adding noise during backpropagation training".
    """

    @checked
    def __init__(self, levels: Annotated[Sequence[NonNegative], Len(1)] = (0.0, 0.1), seed: Seed = 0) -> None:
        self.levels, self.seed = list(levels), seed
        self.noise = ExitStack()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, FoolingModule)
        step = trainer.fit_loop.epoch_loop.total_batch_idx  # counts on in a resumed training
        level = self.levels[step % len(self.levels)]
        self.noise.close()
        self.noise.enter_context(parameter_noise(pl_module.network, level, self.seed + step))

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.noise.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.noise.close()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Tensor | Any, batch: Any, batch_idx: int
    ) -> None:
        self.noise.close()
