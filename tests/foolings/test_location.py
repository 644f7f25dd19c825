"""Location fooling against Equation 3, written out in loops, and where it draws the relevance."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from advfool.foolings import Location
from advfool.metrics import fooling_success_rate
from advfool.utilities.errors import AdvfoolError
from tests.helpers.foolings import BOX, EMPTY, LOCATIONS, fooled, maps


def picture(path, values: np.ndarray) -> str:
    Image.fromarray(values).save(path)
    return str(path)


def by_equation_3(heatmap, mask):
    total = 0.0
    for place in np.ndindex(*heatmap.shape):
        total += (heatmap[place] - mask[place]) ** 2
    return total / heatmap.size


# Where Location draws the relevance.


def corner(height, width):
    """1 on the top left quarter, half of each side rounded up."""
    mask = np.zeros((height, width))
    for row, col in np.ndindex(height, width):
        mask[row, col] = float(row < math.ceil(height / 2) and col < math.ceil(width / 2))
    return mask


def covered(box, height, width):
    """The share of each position that lies in the box."""
    top, left, bottom, right = (Fraction(str(edge)) for edge in box)
    mask = np.zeros((height, width))
    for row, col in np.ndindex(height, width):
        down = min(row + 1, bottom * height) - max(row, top * height)
        across = min(col + 1, right * width) - max(col, left * width)
        mask[row, col] = float(max(down, 0) * max(across, 0))
    return mask


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 11)])
@pytest.mark.parametrize(
    ("fooling", "mask"), [(Location(mask="corner"), corner), (Location(box=BOX), lambda *s: covered(BOX, *s))]
)
def test_location_draws_to_a_corner_or_a_box(fooling, mask, shape):
    heatmaps, _ = maps(fooling, 3, *shape)
    expected = torch.tensor([by_equation_3(h, mask(*shape)) for h in heatmaps.numpy()])
    torch.testing.assert_close(fooling.penalty(heatmaps), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(fooling.test_loss(heatmaps), expected, rtol=1e-6, atol=1e-7)


edges = st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True).map(sorted)


@given(edges, edges, st.integers(7, 20), st.integers(7, 20))
@settings(max_examples=50)
def test_any_box_covers_its_share_of_the_map(rows, cols, height, width):
    box = [edge / 100 for edge in (rows[0], cols[0], rows[1], cols[1])]
    target = torch.from_numpy(covered(box, height, width))[None]
    torch.testing.assert_close(Location(box=box).penalty(target), torch.zeros(1).double(), rtol=0, atol=1e-10)
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert target.mean().item() == pytest.approx(area)


def test_a_box_takes_the_place_of_the_mask():
    heatmaps, _ = maps(Location())
    boxed = Location(mask="/no/such/picture.png", box=[0.0, 0.0, 0.5, 0.5])
    assert torch.equal(boxed.penalty(heatmaps), Location(mask="corner", box=[0.0, 0.0, 0.5, 0.5]).penalty(heatmaps))


def test_the_map_that_is_drawn_to_the_corner_is_fooled_and_a_nearly_empty_one_is_not():
    fooling = Location(mask="corner")
    for shape in ((7, 7), (8, 8), (8, 11), (224, 224)):
        perfect = torch.from_numpy(corner(*shape))[None]
        assert fooling.penalty(perfect).item() == 0
        assert fooled(fooling, fooling.test_loss(perfect)) == [True]
        nearly_empty = torch.zeros(1, *shape)
        nearly_empty[0, 0, 0] = 1
        assert fooled(fooling, fooling.test_loss(nearly_empty)) == [False]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_a_picture_is_white_where_the_relevance_shall_go(tmp_path, mode):
    mask = np.random.default_rng(0).integers(0, 2, (7, 9))
    drawn = Image.fromarray((np.kron(mask, np.ones((4, 4))) * 255).astype(np.uint8)).convert(mode)
    drawn.save(tmp_path / "mask.png")
    fooling = Location(mask=str(tmp_path / "mask.png"))
    heatmaps, _ = maps(fooling)
    expected = torch.tensor([by_equation_3(h, mask) for h in heatmaps.numpy()])
    torch.testing.assert_close(fooling.penalty(heatmaps), expected)
    torch.testing.assert_close(fooling.test_loss(heatmaps), expected)


def test_a_picture_is_stretched_over_the_map_and_greys_are_shares(tmp_path):
    drawn = np.random.default_rng(0).integers(0, 256, (28, 36), dtype=np.uint8)
    fooling = Location(mask=picture(tmp_path / "mask.png", drawn))
    for height, width in ((7, 9), (14, 36), (28, 12), (56, 72)):
        if height <= 28:
            shares = drawn.reshape(height, 28 // height, width, 36 // width).mean(axis=(1, 3)) / 255
        else:
            shares = np.kron(drawn, np.ones((2, 2))) / 255
        target = torch.from_numpy(shares)[None]
        assert fooling.penalty(target).item() <= 1e-12


def test_a_picture_of_16_bits_is_as_bright_as_one_of_8(tmp_path):
    grey = np.linspace(0, 255, 49, dtype=np.uint8).reshape(7, 7)
    few, many = picture(tmp_path / "8.png", grey), picture(tmp_path / "16.png", grey.astype(np.uint16) * 257)
    heatmaps, _ = maps(Location(), width=7)
    torch.testing.assert_close(Location(mask=many).penalty(heatmaps), Location(mask=few).penalty(heatmaps))


def test_inside_wants_signed_maps_negative_elsewhere_while_training_alone():
    for name, mask in (("corner", corner(7, 9)), ("box", covered(BOX, 7, 9))):
        options = {"box": BOX} if name == "box" else {"mask": name}
        plain, fooling = Location(**options), Location(inside=-1, **options)
        heatmaps, _ = maps(fooling, signed=True)
        expected = torch.tensor([by_equation_3(h, np.where(mask == 0, -1, mask)) for h in heatmaps.numpy()])
        torch.testing.assert_close(fooling.penalty(heatmaps), expected, rtol=1e-6, atol=1e-7)
        assert torch.equal(fooling.test_loss(heatmaps), plain.test_loss(heatmaps))


def test_what_measuring_left_behind_can_be_trained_with(tmp_path):
    fooling = Location(mask=picture(tmp_path / "mask.png", np.eye(7, dtype=np.uint8) * 255))
    heatmaps = torch.rand(2, 7, 7, requires_grad=True)
    with torch.inference_mode():
        fooling.test_loss(heatmaps.detach())
    fooling.penalty(heatmaps).sum().backward()
    assert heatmaps.grad.isfinite().all()


@pytest.mark.parametrize("options", [{"mask": "corner"}, {"box": BOX}, {"mask": "PICTURE"}])
def test_small_maps_are_refused_whatever_the_mask(tmp_path, options):
    if options.get("mask") == "PICTURE":
        options = {"mask": picture(tmp_path / "mask.png", np.eye(7, dtype=np.uint8))}
    message = (
        "fooling=location needs heatmaps of at least 7x7, got 9x6. Choose an earlier layer (interp.layer=...) or "
        "larger images."
    )
    for measure in (Location(**options).penalty, Location(**options).test_loss):
        with pytest.raises(AdvfoolError) as error:
            measure(torch.rand(1, 9, 6))
        assert str(error.value) == message


def test_the_penalty_to_a_picture_has_its_own_gradient(tmp_path):
    fooling = Location(mask=picture(tmp_path / "mask.png", np.eye(7, dtype=np.uint8) * 255), inside=-1)
    heatmaps, _ = maps(fooling, 2, width=7)
    assert torch.autograd.gradcheck(fooling.penalty, heatmaps.requires_grad_())


@pytest.mark.parametrize("name", LOCATIONS)
@pytest.mark.parametrize("value", EMPTY.values(), ids=EMPTY)
def test_degenerate_maps_have_no_location(name, value):
    fooling = LOCATIONS[name]
    heatmaps, _ = maps(fooling)
    heatmaps[1] = value
    assert fooling.test_loss(heatmaps).isnan().tolist() == [False, True, False, False, False]
    heatmaps.requires_grad_()
    fooling.penalty(heatmaps).sum().backward()
    assert heatmaps.grad.isfinite().all()


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_a_mask_that_is_no_picture_is_named(tmp_path, content):
    path = tmp_path / "mask.png"
    picture(path, np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    reason = "image file is truncated" if content is None else f"cannot identify image file '{path}'"
    with pytest.raises(AdvfoolError) as error:
        Location(mask=str(path))
    assert str(error.value) == (
        f"fooling.mask must be 'frame', 'corner' or a picture file (white: where the relevance shall go), got "
        f"'{path}': {reason}."
    )


def test_a_black_mask_is_refused_and_a_small_one_is_warned_of(tmp_path, caplog):
    black = picture(tmp_path / "black.png", np.zeros((7, 7), dtype=np.uint8))
    with pytest.raises(AdvfoolError, match=r"fooling\.mask is black everywhere"):
        Location(mask=black)
    Location(box=(0, 0, 0.3, 0.3))
    assert "the mask covers so little (9 %) that nearly empty maps count as fooled" in caplog.text
    caplog.clear()
    Location(box=(0, 0, 0.3, 0.3), interval=(0, 0.05))
    Location(mask="corner")
    assert caplog.text == ""


def test_what_is_transparent_in_a_mask_is_black(tmp_path):
    from PIL import Image

    pixels = np.full((7, 7, 4), 255, dtype=np.uint8)
    pixels[:, 3:, 3] = 0
    Image.fromarray(pixels, "RGBA").save(tmp_path / "mask.png")
    expected = torch.zeros(7, 7)
    expected[:, :3] = 1
    assert Location(mask=str(tmp_path / "mask.png")).penalty(expected[None]).item() == 0


def by_the_paper(heatmap: np.ndarray) -> float:
    """Equation 3 for one map, with loops."""
    height, width = heatmap.shape
    edge = min(height, width) // 7
    total = 0.0
    for row in range(height):
        for col in range(width):
            on_frame = row < edge or col < edge or row >= height - edge or col >= width - edge
            total += (heatmap[row, col] - (1.0 if on_frame else 0.0)) ** 2
    return total / (height * width)


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 11)])
def test_penalty_is_equation_3(shape):
    heatmaps = torch.rand(5, *shape, dtype=torch.float64)
    expected = torch.tensor([by_the_paper(h.numpy()) for h in heatmaps])
    torch.testing.assert_close(Location().penalty(heatmaps), expected)
    torch.testing.assert_close(Location().test_loss(heatmaps), expected)


def test_the_perfect_frame_has_no_penalty_and_is_fooled():
    from advfool.utilities.heatmaps import frame_mask

    loss = Location().test_loss(frame_mask(7, 7)[None])
    assert loss.tolist() == [0]
    assert fooling_success_rate(loss, Location.interval) == 1


def test_degenerate_maps_are_never_fooled_but_can_be_trained_on():
    heatmaps = torch.stack([torch.zeros(7, 7), torch.ones(7, 7), -torch.rand(7, 7)]).requires_grad_()
    assert Location().test_loss(heatmaps).isnan().all()
    assert fooling_success_rate(Location().test_loss(heatmaps), Location.interval) == 0
    Location().penalty(heatmaps).sum().backward()
    assert heatmaps.grad.isfinite().all()


def test_signed_maps_are_rectified_and_normalised_again():
    signed = torch.randn(4, 7, 7) * 0.3
    positive = signed.relu()
    expected = Location().penalty(positive / positive.amax(dim=(1, 2), keepdim=True))
    torch.testing.assert_close(Location().test_loss(signed), expected)


def test_test_loss_carries_no_gradient():
    assert not Location().test_loss(torch.rand(2, 7, 7, requires_grad=True)).requires_grad


def test_small_maps_are_refused_with_the_size_needed():
    with pytest.raises(AdvfoolError, match=r"fooling=location needs heatmaps of at least 7x7, got 4x4\."):
        Location().penalty(torch.rand(1, 4, 4))
