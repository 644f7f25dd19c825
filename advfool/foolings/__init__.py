"""Foolings: what the heatmaps are made to do."""

from advfool.foolings.active import Active
from advfool.foolings.base import Fooling, PassiveFooling
from advfool.foolings.passive import CenterMass, Location, TopK

__all__ = ["Active", "CenterMass", "Fooling", "Location", "PassiveFooling", "TopK"]
