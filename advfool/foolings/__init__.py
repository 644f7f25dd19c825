"""Foolings: what the heatmaps are trained to show."""

from advfool.foolings.active import Active
from advfool.foolings.base import CompositeFooling, Fooling, PassiveFooling
from advfool.foolings.center_mass import CenterMass
from advfool.foolings.location import Location
from advfool.foolings.target import Target
from advfool.foolings.topk import TopK

__all__ = ["Active", "CenterMass", "CompositeFooling", "Fooling", "Location", "PassiveFooling", "Target", "TopK"]
