"""Differentiable interpreters: heatmaps that a network can be trained through."""

from advfool.interpreters.base import Interpreter
from advfool.interpreters.gradcam import GradCAM

__all__ = ["GradCAM", "Interpreter"]
