"""What a key of the configuration is for."""

from enum import Enum


class Role(Enum):
    """What a key of the configuration is for."""

    NAME = "is part of every run's name, and decides the results"
    SETTING = "decides the results"
    SHOWN = "decides only what is shown"
    PLACE = "says only where things lie, and how fast they are done"
    SOURCE = "is only referred to by other keys"
