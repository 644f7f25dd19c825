"""Dashboards: loggers that show what a run was asked for, its pictures and its results besides values by step."""

from advfool.training.loggers.base import Dashboard, dashboards
from advfool.training.loggers.tensorboard import TensorBoard
from advfool.training.loggers.weights_and_biases import Wandb, wandb_ended

__all__ = ["Dashboard", "TensorBoard", "Wandb", "dashboards", "wandb_ended"]
