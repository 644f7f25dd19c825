"""Foolings: what the heatmaps are made to do."""

from advfool.foolings.base import Fooling
from advfool.foolings.passive import Location

__all__ = ["Fooling", "Location"]
