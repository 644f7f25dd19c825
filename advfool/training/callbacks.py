"""Lightning callbacks. A validation measures the selection images, before the training and during it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.trainer.states import TrainerFn
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import Metric

from advfool.data.samples import Sample, Samples, take
from advfool.evaluation.paired import record_pair
from advfool.interpreters.base import Interpreter
from advfool.metrics import AOPC, FoolingSuccessRate, ImageMean
from advfool.metrics.functional.regions import Replacement
from advfool.training.loggers import dashboards
from advfool.training.module import FoolingModule
from advfool.training.pictures import snapshots_picture
from advfool.utilities.checking import checked
from advfool.utilities.errors import Diverged
from advfool.utilities.files import SNAPSHOTS
from advfool.utilities.heatmaps import is_finite
from advfool.utilities.kinds import Count, Share, Size, Text
from advfool.utilities.roles import Role


class StepProgressBar(RichProgressBar):
    """Lightning's rich progress bar for trainings whose length is given in steps, not in epochs."""

    role = Role.SHOWN

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Pass {current_epoch + 1}, from step {self.trainer.global_step} of {self.trainer.max_steps}"


class DivergenceGuard(Callback):
    """Stops the training when the accuracy on the selection images has fallen too far.

    Args:
        max_accuracy_drop: fraction of the selection images, against the original network. The fall has to exceed it by
            two standard errors, so that a few unlucky images do not stop a run.
    """

    @checked
    def __init__(self, max_accuracy_drop: Share = 0.1) -> None:
        self.max_accuracy_drop = max_accuracy_drop

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:  # the validation of the original network before the start
            return
        module = _fooling(pl_module)
        top1 = float(trainer.callback_metrics["val/top1"])
        before = module.original_top1 or 0.0
        drop, images = before - top1, len(_samples(_loaders(trainer)[0]))
        error = (max(drop, 0.0) * (1 - max(drop, 0.0)) / images) ** 0.5
        if drop - 2 * error > self.max_accuracy_drop:
            raise Diverged(
                f"Training destroyed the classifier: top-1 on the selection images fell from "
                f"{before:.1%} to {top1:.1%} by step {trainer.global_step}, more than "
                f"max_accuracy_drop = {self.max_accuracy_drop:.1%}. Lower optimizer.lr or fool_weight, or use "
                "preserve=distillation."
            )


class _EveryNValidations(Callback):
    """Abstract: something that is due at every n-th validation, the one before the training included; None: never."""

    role = Role.SHOWN

    @checked
    def __init__(self, every_n_validations: Count | None = None) -> None:
        self.every_n_validations, self.validations = every_n_validations, 0

    @property
    def due(self) -> bool:
        """Tell whether it is due at this validation."""
        return self.every_n_validations is not None and self.validations % self.every_n_validations == 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validations += not trainer.sanity_checking

    def state_dict(self) -> dict:
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict) -> None:
        self.validations = state_dict["validations"]


class MapMetrics(_EveryNValidations):
    """Measures the heatmaps of all evaluated interpreters on the selection images during the training.

    Logs `val/fsr/NAME` (of the interpreters that are not trained with), `val/spearman/NAME` (original against
    manipulated heatmap) and `val/aopc/NAME` (the manipulated network under its own heatmap).

    Args:
        every_n_validations: how often; None: never.
        aopc_images: AOPC is measured on so many of the selection images.
        steps: of the AOPC, regions that are replaced.
        region: side of a region, in pixels.
        replacement: `uniform` (noise), `mean`, `blur` or `zero`.
    """

    @checked
    def __init__(
        self,
        every_n_validations: Count | None = None,
        aopc_images: Size = 0,
        steps: Count = 100,
        region: Count = 9,
        replacement: Replacement = "uniform",
    ) -> None:
        super().__init__(every_n_validations)
        self.aopc_images, self.aopc = aopc_images, {"steps": steps, "region": region, "replacement": replacement}
        self.metrics: dict[str, Metric] = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.metrics = {}
        module = _fooling(pl_module)
        for interp in module.watched if self.due else ():
            if interp not in module.attacked:
                self.metrics[f"val/fsr/{interp.name}"] = FoolingSuccessRate(module.fooling.interval)
            self.metrics[f"val/spearman/{interp.name}"] = ImageMean("spearman")
            if self.aopc_images and not module.composites:
                pixel_range = trainer.datamodule.input.pixel_range()  # pyright: ignore[reportAttributeAccessIssue] (set by fit)
                self.metrics[f"val/aopc/{interp.name}"] = AOPC(pixel_range=pixel_range, **self.aopc)
        self.metrics = {name: metric.to(module.device) for name, metric in self.metrics.items()}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        module = _fooling(pl_module)
        if not self.metrics or module.composites != (dataloader_idx == 1):
            return
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            targets, found = _maps(module, batch, module.watched)
            for interp, (maps, originals, compared) in zip(module.watched, found, strict=True):
                if fsr := self.metrics.get(f"val/fsr/{interp.name}"):
                    fsr.update(module.fooling.test_loss(maps, compared))
                pair = [found.flatten(0, -3) for found in (originals, maps)]
                usable = is_finite(pair[0]) & is_finite(pair[1])
                self.metrics[f"val/spearman/{interp.name}"].update(*(found[usable] for found in pair))
                aopc = self.metrics.get(f"val/aopc/{interp.name}")
                if aopc and (chosen := usable & (batch.index < self.aopc_images)).any():
                    arguments = (values[chosen] for values in (batch.image, targets, maps, batch.index))
                    aopc.update(module.network, *arguments)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, metric in self.metrics.items():
            pl_module.log(name, metric.compute().float())


class HeatmapSnapshots(_EveryNValidations):
    """Keeps the heatmaps of a few fixed selection images in the course of the training, with their test losses.

    They are written to `snapshots.safetensors` (steps (s,), maps (s, images, h, w), test_loss (s, images); two of each
    image for active fooling) and drawn in `snapshots.png`, for dashboards as well: the picture from which a fooling's
    interval is chosen.

    Args:
        folder: of the run.
        every_n_validations: how often; None: never.
        images: how many selection images.
        all_interpreters: whether those that are only evaluated with are included.

    Source: Heo et al. 2019, Appendix C, Figures 7 to 10.
    """

    @checked
    def __init__(
        self, folder: Text, every_n_validations: Count | None = None, images: Count = 4, all_interpreters: bool = False
    ) -> None:
        super().__init__(every_n_validations)
        self.folder, self.images, self.all_interpreters = Path(folder), images, all_interpreters
        self.snapshots: dict[int, dict[str, Tensor]] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.due and trainer.is_global_zero and not trainer.sanity_checking:
            self._snapshot(trainer, _fooling(pl_module))
        super().on_validation_end(trainer, pl_module)

    def state_dict(self) -> dict:
        return super().state_dict() | {"snapshots": self.snapshots}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.snapshots = state_dict["snapshots"]

    @torch.no_grad()
    def _snapshot(self, trainer: Trainer, module: FoolingModule) -> None:
        data = _samples(_loaders(trainer)[-1])
        batch = Sample(*(values.to(module.device) for values in take(data, range(min(self.images, len(data))))))
        interpreters = module.watched if self.all_interpreters else [module.interpreter]
        with trainer.precision_plugin.forward_context():
            _, found = _maps(module, batch, interpreters)
        snapshot = self.snapshots[trainer.global_step] = {}
        for interp, (maps, _, compared) in zip(interpreters, found, strict=True):
            snapshot[f"maps/{interp.name}"] = maps.flatten(0, -3).float().cpu()
            snapshot[f"test_loss/{interp.name}"] = module.fooling.test_loss(maps, compared).flatten().float().cpu()
        tensors = {name: torch.stack([each[name] for each in self.snapshots.values()]) for name in snapshot}
        save_file({"steps": torch.tensor(list(self.snapshots)), **tensors}, self.folder / SNAPSHOTS)
        maps, losses = (tensors[f"{key}/{module.interpreter.name}"] for key in ("maps", "test_loss"))
        picture = self.folder / "snapshots.png"
        snapshots_picture(picture, list(self.snapshots), maps, losses, module.fooling.interval)
        for dashboard in dashboards(trainer.loggers):
            dashboard.show_picture(picture, trainer.global_step)


def _maps(
    module: FoolingModule, batch: Sample, interpreters: Sequence[Interpreter]
) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    """Read the explained classes and, by interpreter, the manipulated and original maps and what both compare with."""
    networks = {"original": module.original, "manipulated": module.network}
    pair = record_pair(networks, batch.image, batch.label, interpreters, module.target)
    found = []
    for interp in interpreters:
        maps = pair.maps(interp)
        compared = pair.compared(interp, module.fooling, maps["original"])
        found.append((maps["manipulated"], maps["original"], compared))
    return pair.targets, found


def _loaders(trainer: Trainer) -> list[DataLoader]:
    """List the loaders of a validation: for active fooling those of the images and of the composites."""
    loaders: Any = trainer.val_dataloaders
    return loaders if isinstance(loaders, list) else [loaders]


def _samples(loader: DataLoader) -> Samples:
    """Return the data set of a loader."""
    data: Any = loader.dataset
    return data


def _fooling(module: LightningModule) -> FoolingModule:
    """Return the module that these callbacks are for."""
    assert isinstance(module, FoolingModule)
    return module
