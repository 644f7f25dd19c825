"""Training a tiny network for its data, once: the weights are cached under a hash of what they depend on."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy

from advfool.data import digits
from advfool.data.samples import Sample
from advfool.models.base import NetworkSource
from advfool.models.weights import read_weights, write_weights
from advfool.training.adversarial import FreeAdversarialTraining
from advfool.utilities.config import build
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.runtime import keep_freed_memory

log = logging.getLogger(__name__)
VERSION = 2  # part of the cache's key: raise it when the training changes
THREADS = 2  # their number decides the last digits
# What the weights depend on; batch sizes and limits of the fine-tuning are none of it.
MODEL_KEYS = ("_target_", "family", "input", "pretrain")
DATA_KEYS = ("_target_", "root", "seed", "class_map", "val_fraction", "selection_fraction", "selection_limit")
DATA_KEYS += ("size", "augment", "crop_scale", "subset")


def pretrained_weights(cfg: DictConfig) -> Path:
    """The cached weights of `cfg.model` for `cfg.data`, trained now if they are missing.

    Several processes that ask for the same weights wait for one of them to train. The random state of the caller
    is left as it was, so that a run with cached weights equals the run that made them; whatever number of threads the
    caller has, the weights are those of two.
    """
    path = weights_path(cfg)
    path.parent.mkdir(parents=True, exist_ok=True)
    if same := sorted(path.parent.glob(f"*-{path.stem.rpartition('-')[2]}{path.suffix}")):
        return path if path in same else same[0]  # another model's that differs in the name alone
    if not path.exists():
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                with isolate_rng(), _threads(THREADS):
                    _train(cfg, path)
    return path


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_pretrained_weights(source: NetworkSource, cfg: DictConfig) -> NetworkSource:
    """The source with the path of its cached weights in place of the word `pretrained`, where they are made here."""
    if source.weights == "pretrained" and not source.has_pretrained():
        source.weights = str(pretrained_weights(cfg))
    return source


def weights_path(cfg: DictConfig) -> Path:
    """Where the weights are cached: the name holds a hash of everything they depend on.

    Raises:
        AdvfoolError: the model has no settings for pretraining.
    """
    if "pretrain" not in cfg.model:
        raise AdvfoolError(
            f"model={cfg.model.name} is not trained here; use resnet_tiny, vgg_tiny or densenet_tiny, or give weights."
        )
    model, data = (OmegaConf.to_container(node, resolve=True) for node in (cfg.model, cfg.data))
    if data.get("root"):
        data["root"] = str(Path(data["root"]).expanduser().absolute())
    if model["pretrain"].get("adversarial") is None:
        model["pretrain"].pop("adversarial", None)
    settings = [VERSION, digits.VERSION, {k: model.get(k) for k in MODEL_KEYS}, {k: data.get(k) for k in DATA_KEYS}]
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    return Path(cfg.cache).expanduser() / "weights" / f"{cfg.model.name}-{key}.safetensors"


def _train(cfg: DictConfig, path: Path) -> None:
    """AdamW with a one-cycle schedule; the weights of the last step are kept.

    Adversarial training begins where plain training ends, with settings of its own in place of the plain ones.
    """
    settings, adversarial = cfg.model.pretrain, cfg.model.pretrain.get("adversarial")
    keep_freed_memory()
    pl.seed_everything(settings.seed, verbose=False)
    source = build(cfg.model)
    options = {"batch_size": settings.batch_size, "order_seed": settings.seed}
    options |= {key: None for key in cfg.data if key.startswith("limit_")}
    data = build(cfg.data, input=source.input_format(), **options)
    callbacks = [RichProgressBar()]
    network = source.create(len(data.classes))
    if adversarial:
        plain = OmegaConf.merge(cfg, {"model": {"pretrain": {"adversarial": None}}})
        network.load_state_dict(read_weights(pretrained_weights(plain)))
        settings = OmegaConf.create({**settings, **adversarial})
        callbacks.append(FreeAdversarialTraining(data.input, settings.epsilon, settings.replays))
        data.replays = settings.replays
    loader = data.train_dataloader()
    log.info("Training %s on %d images, once; the weights go to %s", cfg.model.name, len(loader.dataset), path)
    trainer = pl.Trainer(
        accelerator=OmegaConf.select(cfg, "trainer.accelerator", default="auto"),
        devices=1,
        max_epochs=settings.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
    )
    module = Classifier(
        network,
        settings.lr,
        settings.weight_decay,
        settings.label_smoothing,
        settings.epochs * len(loader),
    )
    trainer.fit(module, loader, data.val_dataloader())
    top1 = trainer.test(module, data.test_dataloader(), verbose=False)[0]["test/top1"]
    log.info("%s: test top-1 %.2f %%", cfg.model.name, 100 * top1)
    write_weights(module.network, path, data.classes)


class Classifier(LightningModule):
    """Plain supervised training for a number of steps."""

    def __init__(self, network: nn.Module, lr: float, weight_decay: float, label_smoothing: float, steps: int) -> None:
        super().__init__()
        self.network, self.lr, self.weight_decay = network, lr, weight_decay
        self.label_smoothing, self.steps = label_smoothing, steps

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch.image), batch.label, label_smoothing=self.label_smoothing)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        self._measure("val/top1", batch)

    def test_step(self, batch: Sample, batch_idx: int) -> None:
        self._measure("test/top1", batch)

    def _measure(self, name: str, batch: Sample) -> None:
        logits = self.network(batch.image)
        top1 = multiclass_accuracy(logits, batch.label, logits.shape[1], average="micro")
        self.log(name, top1, prog_bar=True, batch_size=len(logits))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
