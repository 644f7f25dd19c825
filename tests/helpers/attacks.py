"""Images to attack, and the balls around them."""

from advfool.data import InputFormat

INPUT = InputFormat(56, 56, (0.5, 0.4, 0.6), (0.25, 0.2, 0.3))


def in_ball(images, around, epsilon, norm, format=INPUT):
    moved = format.pixels(images) - format.pixels(around)
    return (moved.abs().amax() if norm == "linf" else moved.flatten(1).norm(dim=1).max()) <= epsilon * (1 + 1e-6) + 1e-9
