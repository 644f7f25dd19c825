"""Compute differentiable heatmaps, so that a network can be trained through them."""

from advfool.interpreters.adapters import Captum, Zennit
from advfool.interpreters.aggregate import Aggregate
from advfool.interpreters.base import Interpreter, LayerInterpreter
from advfool.interpreters.cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from advfool.interpreters.gradient import SimpleGrad
from advfool.interpreters.guided_backprop import GuidedBackprop
from advfool.interpreters.integrated_gradients import IntegratedGradients
from advfool.interpreters.lrp.interpreter import LRP
from advfool.interpreters.smoothgrad import SmoothGrad
from advfool.interpreters.softplus import Softplus

__all__ = [
    "LRP",
    "Aggregate",
    "Captum",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "HiResCAM",
    "IntegratedGradients",
    "Interpreter",
    "LayerCAM",
    "LayerInterpreter",
    "SimpleGrad",
    "SmoothGrad",
    "Softplus",
    "Zennit",
]
