"""Random maps of images, batched and on the images' device."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ROTATION_DEGREES = 15.0
SCALE = 0.15
SHEAR = 0.15
SHIFT = 1 / 14
"""Of the image's side: 2 pixels of 28."""

Augmentation = Callable[[Tensor, torch.Generator, str], Tensor]


def none(images: Tensor, generator: torch.Generator, padding: str) -> Tensor:
    """The images as they are."""
    return images


def affine(images: Tensor, generator: torch.Generator, padding: str) -> Tensor:
    """A random affine map of each image; [B, C, H, W] in [0, 1] → the same.

    Rotation within ±15°, scale 0.85–1.15 in each direction, shear within ±0.15, shift within
    1/14 of the side, all uniform. Drawn from ``generator`` on the CPU.

    Args:
        images: Float images.
        generator: A CPU generator.
        padding: ``"zeros"`` (ink on black) or ``"border"`` (photographs).
    """
    theta = affine_maps(len(images), generator).to(images)
    grid = affine_grid(theta, *images.shape[2:])
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def affine_maps(
    count: int,
    generator: torch.Generator,
    *,
    degrees: float = ROTATION_DEGREES,
    scale: float = SCALE,
    shear: float = SHEAR,
    shift: float = SHIFT,
) -> Tensor:
    """Random maps [count, 2, 3] from output to input coordinates, where the side is 2 long."""
    u = torch.rand(6, count, generator=generator, dtype=torch.float64) * 2 - 1
    angle = u[0] * math.radians(degrees)
    cos, sin = angle.cos(), angle.sin()
    wide, high = 1 / (1 + scale * u[1]), 1 / (1 + scale * u[2])
    slant = shear * u[3]
    rows = [
        torch.stack([wide * cos, wide * (slant * cos - sin), 2 * shift * u[4]], -1),
        torch.stack([high * sin, high * (slant * sin + cos), 2 * shift * u[5]], -1),
    ]
    return torch.stack(rows, 1).float()


def affine_grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Where each output pixel comes from, [B, H, W, 2]; what ``F.affine_grid`` gives.

    Written out because that one multiplies a tiny matrix per image: several times slower on a CPU.
    """
    y, x = (
        (torch.arange(side, device=theta.device, dtype=theta.dtype) * 2 + 1) / side - 1
        for side in (height, width)
    )
    across = theta[:, :, 0, None] * x
    down = theta[:, :, 1, None] * y + theta[:, :, 2, None]
    grid = theta.new_empty(len(theta), height, width, 2)
    for axis in (0, 1):
        torch.add(across[:, axis, None, :], down[:, axis, :, None], out=grid[..., axis])
    return grid


AUGMENTATIONS: dict[str, Augmentation] = {"none": none, "affine": affine}
