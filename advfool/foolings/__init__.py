"""Foolings: what the heatmaps are made to do."""

from advfool.foolings.active import Active
from advfool.foolings.base import Fooling, PassiveFooling
from advfool.foolings.center_mass import CenterMass
from advfool.foolings.location import Location
from advfool.foolings.topk import TopK

__all__ = ["Active", "CenterMass", "Fooling", "Location", "PassiveFooling", "TopK"]
