"""Checkpoints that a run can be resumed from anywhere, whenever it was killed."""

import os
from pathlib import Path
from typing import Annotated, Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import BEFORE_LAST, LAST, replacing
from advfool.utilities.roles import Role

ORIGIN = "advfool"  # key of a checkpoint that says which run it belongs to


class WholeFiles(TorchCheckpointIO):
    """Write a checkpoint beside its place and rename it; keep the last but one as well."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(path) as part:
                with part.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                if path.name == LAST and path.exists():
                    path.replace(path.with_name(BEFORE_LAST))
        except (OSError, RuntimeError) as error:  # torch's writer hides the system's error behind its own
            cause = error if isinstance(error, OSError) else error.__context__ or error
            raise AdvfoolError(
                f"The checkpoint '{path}' cannot be written: {cause}. Make room or choose another folder; what was "
                "written before is whole."
            ) from error


class LastCheckpoint(ModelCheckpoint):
    """Save what a run is resumed from, after each validation.

    Args:
        dirpath: folder of the checkpoints; a resumed run may have another one.
        filename: without its ending.
        kwargs: further arguments of Lightning's ModelCheckpoint.
    """

    def __init__(self, dirpath: Annotated[str, Role.PLACE], filename: str = "last", **kwargs: Any) -> None:
        super().__init__(dirpath, filename, **{"enable_version_counter": False, **kwargs})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        paths = {key: self._here(state_dict.get(key)) for key in ("best_model_path", "last_model_path")}
        kept = {self._here(path): score for path, score in (state_dict.get("best_k_models") or {}).items()}
        kept = {path: score for path, score in kept.items() if path == paths["best_model_path"] or Path(path).exists()}
        worst = self._here(state_dict.get("kth_best_model_path"))
        paths["kth_best_model_path"] = worst if worst in kept else paths["best_model_path"]
        super().load_state_dict(state_dict | paths | {"dirpath": self.dirpath, "best_k_models": kept})

    def _here(self, path: str | None) -> str:
        """Return the path of a file of this name in this run's folder."""
        return str(Path(str(self.dirpath)) / Path(path).name) if path else ""


class BestCheckpoint(LastCheckpoint):
    """Save the weights of the best validation, and keep them in every other checkpoint as well.

    So a run can be resumed from the last checkpoint alone: in another folder, and where the file of the best weights is
    missing, damaged, or newer than the last checkpoint.

    Args:
        dirpath: folder of the checkpoints.
        filename: without its ending.
        monitor: the logged value that decides.
        mode: `max` or `min`.
        save_weights_only: whether the file holds the weights alone.
        kwargs: further arguments of Lightning's ModelCheckpoint.
    """

    def __init__(
        self,
        dirpath: Annotated[str, Role.PLACE],
        filename: str = "best",
        monitor: str = "val/score",
        mode: str = "max",
        save_weights_only: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(dirpath, filename, monitor=monitor, mode=mode, save_weights_only=save_weights_only, **kwargs)
        self.best: dict[str, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.best = state_dict.get("best")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.best is not None and self.best_model_path:  # resumed
            trainer.strategy.save_checkpoint({"state_dict": self.best}, self.best_model_path)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        if filepath == self.best_model_path:
            state = trainer.lightning_module.state_dict()
            self.best = {name: value.detach().cpu().clone() for name, value in state.items()}


class Origin(Callback):
    """Write into each checkpoint which run it belongs to.

    Args:
        settings: the values that decide the run's results, by dotted path.
        machine: what decides the last digits of the results, by name.
    """

    def __init__(self, settings: dict[str, Any], machine: dict[str, Any]) -> None:
        self.origin = {"settings": settings, "machine": machine}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[ORIGIN] = self.origin
