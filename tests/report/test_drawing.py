"""A network's picture: nothing overlaps, every edge leads down, every fact stands in it once."""

from __future__ import annotations

import itertools
import random
import re
from xml.etree import ElementTree

import pytest

from autometa.backbones import BACKBONES
from autometa.backbones.base import Shape
from autometa.report.drawing import UNKNOWN, Picture, network_picture
from autometa.report.layout import Layout, Place, laid_out

SVG = "{http://www.w3.org/2000/svg}"
SHAPES: dict[str, Shape] = {"conv": (1, 28, 28), "mlp": (1,), "resnet": (3, 32, 32)}


def random_layout(seed: int) -> tuple[list[tuple[int, ...]], Layout]:
    """Up to thirty boxes, each of which reads up to three of those before it."""
    rng = random.Random(seed)
    sources: list[tuple[int, ...]] = [()]
    for place in range(1, rng.randint(2, 30)):
        sources.append(tuple(rng.sample(range(place), min(place, rng.randint(1, 3)))))
    sizes = [(rng.uniform(50, 200), rng.uniform(20, 150)) for _ in sources]
    return sources, laid_out(sources, sizes)


def overlap(a: Place, b: Place) -> bool:
    beside = abs(a.x - b.x) >= (a.width + b.width) / 2 - 1e-6
    apart = a.bottom <= b.top + 1e-6 or b.bottom <= a.top + 1e-6
    return not (beside or apart)


@pytest.mark.parametrize("seed", range(20))
def test_no_box_lies_on_another_or_on_the_way_of_an_edge(seed: int) -> None:
    _, layout = random_layout(seed)
    lanes = [p for edge in layout.edges for p in edge[1:-1]]
    assert all(lane.box is None for lane in lanes)
    for a, b in itertools.combinations([*layout.boxes, *lanes], 2):
        assert not overlap(a, b)
    for place in [*layout.boxes, *lanes]:
        assert place.width / 2 - 1e-6 <= place.x <= layout.width - place.width / 2 + 1e-6
        assert 0 <= place.top < place.bottom <= layout.height + 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_every_edge_leads_down_from_what_is_read_to_who_reads_it(seed: int) -> None:
    sources, layout = random_layout(seed)
    wanted = {(read, reader) for reader, reads in enumerate(sources) for read in reads}
    assert {(edge[0].box, edge[-1].box) for edge in layout.edges} == wanted
    for edge in layout.edges:
        assert all(upper.bottom < lower.top for upper, lower in itertools.pairwise(edge))


def test_a_chain_stands_in_one_column() -> None:
    layout = laid_out([(), (0,), (1,)], [(100, 40), (60, 20), (80, 30)])
    assert {place.x for place in layout.boxes} == {50}
    assert layout.width == 100


def drawn(name: str) -> Picture:
    architecture = BACKBONES.load(name)().default()
    return network_picture({"backbone": name, "architecture": architecture}, SHAPES[name])


@pytest.mark.parametrize("name", SHAPES)
def test_the_picture_is_xml_and_its_parameters_add_up(name: str) -> None:
    picture = drawn(name)
    space = BACKBONES.load(name)()
    backbone = space.build(space.default(), SHAPES[name])
    assert picture.svg is not None
    root = ElementTree.fromstring(f'<g xmlns="{SVG[1:-1]}">{picture.svg!s}</g>')[0]
    told = re.findall(r"([\d,]+) parameters", " ".join(text.text or "" for text in root))
    assert sum(int(each.replace(",", "")) for each in told) == backbone.parameters
    assert sum(int(row[3].replace(",", "")) for row in picture.layers) == backbone.parameters
    assert f"{backbone.parameters:,} parameters." in picture.alt
    boxes = [each for each in root if each.tag == f"{SVG}rect"]
    assert f"in {len(boxes) - 1} boxes" in picture.alt


def test_conv4_says_what_comes_out_of_each_block() -> None:
    picture = drawn("conv")
    assert picture.svg is not None
    for line in ("input", "conv1", "conv 3×3, 64", "37,056 parameters", "→ 64 × 7 × 7", "→ 64"):
        assert f">{line}</text>" in picture.svg
    assert picture.layers[2] == ("conv1.norm", "batch norm", "64 × 28 × 28", "128")


def test_what_cant_be_drawn_says_why() -> None:
    assert network_picture({"backbone": "conv", "architecture": {}}, None) == Picture(None, UNKNOWN)
    gone = network_picture({"backbone": "mine", "architecture": {}}, (1, 28, 28))
    assert gone.svg is None
    assert gone.alt.startswith("The network can't be drawn: backbone 'mine' is unknown")
