"""Tell which torch class a module computes as, whatever its own class is called."""

from torch import nn

SAME_PADDED = "timm.layers.conv2d_same.Conv2dSame"  # a convolution whose padding is part of its class


def full_name(kind: type) -> str:
    """Return the name of a class with its module."""
    return f"{kind.__module__}.{kind.__name__}"


def torch_class(kind: type[nn.Module]) -> type[nn.Module] | None:
    """Return the torch class whose forward method a module class uses, or None if it has its own.

    Args:
        kind: a module class.
    """
    for base in kind.__mro__:
        if (
            base.__module__.startswith("torch.nn.modules")
            and base.forward is kind.forward
            and getattr(kind, "_conv_forward", None) is getattr(base, "_conv_forward", None)
        ):
            return base
    return None


def computes_as_torch(kind: type[nn.Module]) -> bool:
    """Return whether a class of convolutions or linear layers computes what its weights say; others are looked into.

    Args:
        kind: the class.
    """
    return full_name(kind) == SAME_PADDED or torch_class(kind) is not None
