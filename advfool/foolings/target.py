"""Target fooling: every heatmap becomes a given picture, or the map of another class."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Len
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from advfool.foolings.base import Fooling, OriginalMaps, checked_original
from advfool.foolings.pictures import read_brightness
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import is_degenerate
from advfool.utilities.kinds import Interval, Text, Words
from advfool.utilities.ranking import rank_correlation

CROSS = "cross"
ANOTHER_CLASS = "another_class"
LARGEST = 1024  # pixels a side that are kept of a picture; no heatmap is larger
_EXPECTED = (
    f"'{CROSS}', '{ANOTHER_CLASS}', a picture file (white: where the relevance shall go) or a table (height, width) "
    "of numbers, at least 2x2"
)
_ARM = 0.25  # width of the cross's arms, where the picture reaches from -1 to 1
LEAST_SPREAD = 1e-3  # standard deviation over the largest value; below, gradients would grow without bound
_DIGITS = 6  # equal values of a picture stay equal when it is resized

Rows = Annotated[Sequence[Annotated[Sequence[float], Len(2)]], Len(2)]  # one value alone shows nothing
Picture = Annotated[Text | Rows | Tensor | np.ndarray, Words(_EXPECTED)]


@dataclass(frozen=True)
class Target(Fooling):
    """Make every heatmap a given picture, or the heatmap of another class of the same image.

    The penalty is `MSE(h(w), t)`, the heatmap h(w) and the target t both normalised to the mean 0 and the variance 1;
    this is `2 - 2 r`, with r their linear correlation. The test loss is `s(h(w), t) - s(h(w), h(w0))`, with s the
    Spearman correlation and h(w0) the original network's heatmap; it lies from -2 to 2, and an image is fooled within
    [0.5, 2]. The original's own map has `s(h(w0), t) - 1`, at most 0. An image whose target is degenerate (the empty
    map of another class) is not trained on, and never fooled.

    Args:
        picture: what every heatmap shall show: `cross` (two diagonal bars), the path of a picture (its brightness), or
            values (height, width) as a tensor, array or lists, resized to the heatmaps. `another_class` is no picture:
            the target is then the original network's heatmap for the most probable class that is not explained.

    Raises:
        AdvfoolError: the picture cannot be read, has another form, is constant or not finite, or the interval is not
            two numbers in ascending order.

    Source: Viering et al. 2019 (one picture as every Grad-CAM), Anders et al. 2020 (fine-tuning with the MSE to a
        target map); the test loss is that of Heo et al. 2019, eq. 9, with t in place of the other class's map.
    """

    interval: Interval = field(default=(0.5, 2.0), kw_only=True)
    picture: Picture = CROSS
    _values: Tensor | None = field(init=False, repr=False, compare=False, default=None)  # of the picture, in range

    needs_original: ClassVar[bool] = True
    possible: ClassVar[tuple[float, float]] = (-2, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.picture, str):
            values = None if self.picture in (CROSS, ANOTHER_CLASS) else _checked(_read(self.picture))
        else:
            values = _checked(_numbers(self.picture))
            object.__setattr__(self, "picture", _listed(values))  # which can be compared and written
        object.__setattr__(self, "_values", values)

    @property
    def needs_another_class(self) -> bool:
        return isinstance(self.picture, str) and self.picture == ANOTHER_CLASS

    def penalty(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        _, target = self._compared(heatmaps, original)
        distance = (_standardised(heatmaps) - _standardised(target.nan_to_num(0, 0, 0))).square().mean(dim=(1, 2))
        return torch.where(is_degenerate(target), 0.0, distance)  # another class may have an empty map

    def test_loss(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        maps, (own, target) = heatmaps.detach(), self._compared(heatmaps, original)
        unusable = is_degenerate(maps) | is_degenerate(own) | is_degenerate(target)
        to_target, to_own = (rank_correlation(maps, other) for other in (target, own))
        return torch.where(unusable, torch.nan, to_target - to_own).to(heatmaps.dtype)

    def target(self, height: int, width: int) -> Float[Tensor, "h w"]:
        """Return the picture at the size of a heatmap, from 0 to 1, or from -1 where it has negative values.

        Args:
            height: of the map.
            width: of the map.

        Raises:
            AdvfoolError: the picture is constant at this size; or there is none, but the map of another class.
        """
        if self.needs_another_class:
            raise AdvfoolError(f"fooling.picture={ANOTHER_CLASS}: the target differs from image to image.")
        sized = _cross(height, width) if self._values is None else _resized(self._values, height, width)
        if is_degenerate(sized):
            raise AdvfoolError(
                f"fooling.picture is constant when it is resized to a heatmap of {height}x{width}: nothing says where "
                "the relevance shall go. Give one with larger areas, or an earlier layer (interp.layer=...)."
            )
        return _in_range(sized[None])[0]

    def _compared(
        self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps
    ) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
        """Return the original network's maps and the targets."""
        if self.needs_another_class:
            both = checked_original(heatmaps[:, None].expand(-1, 2, -1, -1), original)
            return both[:, 0], both[:, 1]
        picture = self.target(*heatmaps.shape[1:]).to(heatmaps)
        return checked_original(heatmaps, original), picture.expand_as(heatmaps)


def _read(picture: str) -> Float[Tensor, "h w"]:
    """Read a picture file, made smaller where it is larger than any heatmap."""
    grey = read_brightness(picture, f"fooling.picture must be {_EXPECTED}")
    grey.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX, reducing_gap=None)
    return torch.from_numpy(np.array(grey)).double()


def _numbers(picture: Sequence[Sequence[float]] | Tensor | np.ndarray) -> Float[Tensor, "h w"]:
    try:
        values = torch.as_tensor(picture).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise AdvfoolError(f"fooling.picture must be {_EXPECTED}: {error}.") from error
    if values.dim() != 2 or not values.numel() or values.is_complex():
        of = f"{values.dtype} values of the form {tuple(values.shape)}"
        raise AdvfoolError(f"fooling.picture must be {_EXPECTED}, got {of}.")
    return values.double()


def _listed(values: Float[Tensor, "h w"]) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, values.tolist()))


def _checked(values: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Bring the values of a picture into range, and refuse those that say nothing."""
    if not values.isfinite().all():
        raise AdvfoolError("fooling.picture must have finite values, got NaN or infinity.")
    if is_degenerate(values):
        raise AdvfoolError(
            "fooling.picture is constant: nothing says where the relevance shall go, and no heatmap correlates with "
            "it. Give a picture of at least two values."
        )
    return _in_range(values[None])[0]


def _cross(height: int, width: int) -> Float[Tensor, "h w"]:
    """Draw two bars from corner to corner, which fade to their sides."""
    row, col = ((2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1 for size in (height, width))
    falling, rising = (row[:, None] - col[None]).abs(), (row[:, None] + col[None]).abs()
    return torch.exp(-((torch.minimum(falling, rising) / (2 * _ARM)) ** 2)).round(decimals=_DIGITS)


def _resized(values: Float[Tensor, "h w"], height: int, width: int) -> Float[Tensor, "_h _w"]:
    """Average over the area that each position of a heatmap covers."""
    picture = Image.fromarray(values.float().numpy()).resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.array(picture)).double().round(decimals=_DIGITS)


def _in_range(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Subtract the lowest value of each map without negative ones, and divide by its largest absolute value."""
    above = maps - maps.amin(dim=(1, 2), keepdim=True).clamp_min(0)
    scale = above.abs().amax(dim=(1, 2), keepdim=True)
    return torch.where(scale == 0, 0.0, above / torch.where(scale == 0, 1.0, scale))


def _standardised(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Give each map the mean 0 and the variance 1; a constant one becomes zero and carries no gradient."""
    centred = maps - maps.mean(dim=(1, 2), keepdim=True)
    variance = centred.square().mean(dim=(1, 2), keepdim=True)
    least = (LEAST_SPREAD * maps.detach().abs().amax(dim=(1, 2), keepdim=True)).square()
    constant = is_degenerate(maps)[:, None, None]
    return torch.where(constant, 0.0, centred * torch.where(constant, 1.0, variance.clamp_min(least)).rsqrt())
