from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from autometa.episodes import stream
from autometa.episodes.augment import affine, affine_grid, affine_maps, none
from autometa.episodes.dataset import EpisodeShape
from autometa.episodes.images import EpisodeSampler


def test_none_changes_nothing() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert none(images, stream(0, "t"), "zeros") is images


def test_each_image_is_moved_on_its_own() -> None:
    images = torch.zeros(6, 1, 28, 28)
    images[:, :, 10:18, 6:22] = 1
    moved = affine(images, stream(0, "t"), "zeros")
    assert moved.shape == images.shape
    assert len(moved.flatten(1).unique(dim=0)) == 6
    assert 0 <= moved.min() < moved.max() <= 1
    area = moved.sum((1, 2, 3)) / images.sum((1, 2, 3))
    assert (area > 0.85**2 - 0.05).all()
    assert (area < 1.15**2 + 0.05).all()


def test_the_generator_decides() -> None:
    images = torch.rand(3, 1, 12, 12)
    one, same, other = (affine(images, stream(s, "t"), "zeros") for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_padding_is_black_or_the_border() -> None:
    white = torch.ones(16, 3, 20, 20)
    assert affine(white, stream(0, "t"), "zeros").min() < 0.5
    torch.testing.assert_close(affine(white, stream(0, "t"), "border"), white)


def test_the_grid_is_that_of_torch() -> None:
    theta = affine_maps(5, stream(0, "t"))
    expected = F.affine_grid(theta, [5, 1, 9, 14], align_corners=False)
    torch.testing.assert_close(affine_grid(theta, 9, 14), expected, atol=1e-6, rtol=0)


def test_maps_stay_within_the_documented_ranges() -> None:
    theta = affine_maps(20_000, stream(0, "t"), scale=0.0, shear=0.0).double()
    angles = torch.atan2(theta[:, 1, 0], theta[:, 0, 0]).rad2deg()
    assert 14.5 < angles.abs().max() < 15.01
    assert math.isclose(theta[:, :, 2].abs().max().item(), 2 / 14, rel_tol=0.01)
    scaled = affine_maps(20_000, stream(0, "t"), degrees=0.0, shear=0.0)
    assert 1.149 < (1 / scaled[:, 0, 0]).max() < 1.1501
    assert 0.85 - 1e-4 < (1 / scaled[:, 0, 0]).min() < 0.851


def test_augmented_episodes_show_the_same_classes(numbered) -> None:
    split, shape = numbered((4,) * 6), EpisodeShape(3, 1, 2)
    plain = EpisodeSampler(split, shape).sample(4, stream(0, "t"))
    moved = EpisodeSampler(split, shape, augment="affine", padding="border").sample(
        4, stream(0, "t")
    )
    torch.testing.assert_close(plain.support_x, moved.support_x)
