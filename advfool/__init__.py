"""advfool: fool neural network interpretations by adversarial model manipulation, and measure it."""

from importlib import import_module

__all__ = ["explain"]


def __getattr__(name: str):
    """`advfool.explain` without importing torch before it is used."""
    if name == "explain":
        return import_module("advfool.library.explain").explain
    raise AttributeError(f"module 'advfool' has no attribute '{name}'")
