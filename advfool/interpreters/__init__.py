"""Differentiable interpreters: heatmaps that a network can be trained through."""

from advfool.interpreters.adapters import Captum, Zennit
from advfool.interpreters.averaged import IntegratedGradients, SmoothGrad
from advfool.interpreters.base import Interpreter
from advfool.interpreters.cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from advfool.interpreters.gradient import GuidedBackprop, SimpleGrad
from advfool.interpreters.lrp import LRP

__all__ = [
    "LRP",
    "Captum",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "HiResCAM",
    "IntegratedGradients",
    "Interpreter",
    "LayerCAM",
    "SimpleGrad",
    "SmoothGrad",
    "Zennit",
]
