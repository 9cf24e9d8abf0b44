"""Images reach a CPU's convolutions with their channels last, and are the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autometa.learners.base import channels_last

SHAPES = [(4, 3, 6, 5), (4, 1, 6, 5), (4, 1, 1, 1), (0, 1, 6, 5), (1, 2, 6, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_images_whose_convolution_keeps_the_layout(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    laid_out = channels_last(x)
    assert torch.equal(laid_out, x)
    assert laid_out.is_contiguous(memory_format=torch.channels_last)
    y = nn.Conv2d(shape[1], 8, 3, padding=1)(laid_out)
    if len(x):
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_part_of_a_larger_tensor_and_a_gradient_through_it() -> None:
    x = torch.randn(4, 2, 6, 5, requires_grad=True)
    part = channels_last(x[:, :1])
    assert torch.equal(part, x[:, :1])
    (part * torch.arange(30.0).reshape(6, 5)).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[2, 0], torch.arange(30.0).reshape(6, 5))
    assert x.grad[:, 1].abs().max() == 0


def test_what_is_no_image_and_what_is_transformed_stays() -> None:
    for shape in [(4, 3), (4, 3, 6), (4, 3, 6, 5, 2)]:
        x = torch.randn(shape)
        assert channels_last(x) is x
    batched = torch.func.vmap(lambda each: channels_last(each) * 2)(torch.ones(2, 4, 3, 6, 5))
    assert batched.shape == (2, 4, 3, 6, 5)
