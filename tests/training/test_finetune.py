"""Which images the original's answers are kept for: those that never change, where looking them up pays."""

import pytest
import pytorch_lightning as pl

from advfool.utilities.config import conf_dir
from tests.helpers.photos import make_photos


def kept_splits(cache, *overrides):
    """What a run keeps, from its configuration."""
    from hydra import compose, initialize_config_dir

    from advfool.commands.setup import build_setup, training_from
    from advfool.training.finetune import cached_answers

    options = ["model=resnet_tiny", "model.weights=null", "evaluate_with=[]", "data=imagefolder", "data.workers=0"]
    options += [f"cache={cache}", "fool_weight=1", "trainer.max_steps=200", "data.batch_size=4", "data.pair=[cat,dog]"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [*options, *overrides])
    steps = {key: cfg.trainer[key] for key in ("max_steps", "val_check_interval", "check_val_every_n_epoch")}
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, **steps)
    return cached_answers(build_setup(cfg).setup, training_from(cfg), trainer)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 8), ("val", 3)):
        for label in ("cat", "dog"):
            make_photos(root / split / label, count)
    return root


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["fooling=topk", "data.augment=false"], {"train": True, "selection": True}),
        (["fooling=topk", "data.augment=true"], {"selection": True}),
        (["fooling=topk", "data.augment=false", "cache_original=false"], {}),
        (["fooling=topk", "data.augment=false", "trainer.max_steps=1"], {}),
        (["fooling=topk", "data.augment=false", "mix=0.5"], {"selection": True}),
        (["fooling=location", "data.augment=false"], {"train": False}),
        (["fooling=location", "data.augment=true", "target=predicted"], {"selection": False}),
        (
            ["fooling=location", "data.augment=false", "preserve=cross_entropy", "train_target_top=null"],
            {},
        ),
        (
            ["fooling=active", "fooling.train=8", "fooling.test=4", "data.augment=true", "train_target_top=null"],
            {"train": True, "selection": True},
        ),
        (
            ["fooling=active", "fooling.train=8", "fooling.test=4", "data.augment=false", "train_target_top=null"],
            {"train": True, "images": False, "selection": True},
        ),
        (
            ["fooling=active", "fooling.train=8", "fooling.test=4", "fooling.fresh=true", "train_target_top=null"],
            {"selection": True},
        ),
    ],
)
def test_a_run_keeps_what_never_changes_and_is_looked_at_repeatedly(tmp_path, photos, overrides, expected):
    kept = kept_splits(tmp_path, f"data.root={photos}", *overrides)
    assert {split: "maps" in values.arrays for split, values in kept.items()} == expected
