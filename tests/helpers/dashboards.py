"""A short run for the dashboards, and what they show of it."""

from tests.helpers.command import SMALL

TINY = [*SMALL, "trainer.max_steps=6", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1"]


SHORT = ["evaluate_with=[lrp_t]", "pictures=2", "callbacks.snapshots.every_n_validations=1"]


LOOKS = {"val/top1", "val/score", "val/fsr/gradcam", "val/fsr/lrp_t", "val/test_loss/gradcam"}


STEPS = {"train/loss", "train/preserve", "train/penalty"}


PICTURES = {"pictures/heatmaps", "pictures/training", "pictures/snapshots"}
