"""The slope that heatmaps have below zero while a network is trained through them."""

from dataclasses import is_dataclass, replace

from advfool.interpreters.base import Interpreter


def with_training_leak(interpreter: Interpreter, leak: float) -> Interpreter:
    """Return an interpreter, and those within it, with another `training_leak`.

    Args:
        interpreter: any; it is left as it is.
        leak: the slope below zero, from 0 to 1. The smaller, the nearer are the heatmaps in training to those that
            are measured.
    """
    assert is_dataclass(interpreter)
    changes: dict[str, object] = {}
    if hasattr(interpreter, "training_leak"):
        changes["training_leak"] = leak
    if isinstance(inner := getattr(interpreter, "interpreter", None), Interpreter):
        changes["interpreter"] = with_training_leak(inner, leak)
    if inners := getattr(interpreter, "interpreters", None):
        changes["interpreters"] = [with_training_leak(each, leak) for each in inners]
    return replace(interpreter, **changes) if changes else interpreter
