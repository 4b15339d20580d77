"""Pictures are read back as XML, so what is checked is what a browser would draw."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from aiop.graph_ir import ComputeGraph, Operation, TensorSpec, read_onnx
from aiop.graph_ir.picture.drawing import colour
from aiop.graph_ir.picture.repeats import Likeness, Repeat, collapse
from aiop.graph_ir.picture.scene import Panel, build
from aiop.graph_ir.picture.wiring import depth_first_order, wire
from aiop.graph_ir.svg import to_svg
from aiop.tasks.networks import read

RESNET18 = Path(__file__).parents[2] / "examples" / "resnet18.onnx"
CELL = "nas-bench-201:|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
LIGHT = "densenet121 inception_v1 inception_v2 resnet50 shufflenet squeezenet vgg19".split()
NS = "{http://www.w3.org/2000/svg}"


class Net:
    """Builds graphs by hand; every tensor is named after its operation."""

    def __init__(self, shape: tuple[int, ...] = (1, 8, 4, 4)) -> None:
        self.operations = [Operation("image", "Input", "Input", (), ("image",))]
        self.tensors = {"image": TensorSpec(shape)}

    def add(
        self, op: str, *inputs: str, macs: int = 0, shape: tuple[int, ...] = (1, 8, 4, 4), name: str = ""
    ) -> str:
        name = name or f"{op}{len(self.operations)}"
        self.operations.append(Operation(name, op, op, inputs, (name,), macs=macs, params=macs))
        self.tensors[name] = TensorSpec(shape)
        return name

    def graph(self, *outputs: str, name: str = "net") -> ComputeGraph:
        return ComputeGraph(name, self.operations, self.tensors, ("image",), outputs)


def residual(net: Net, x: str, channels: int = 8) -> str:
    """A block of five operations and 300 MACs."""
    shape = (1, channels, 4, 4)
    y = net.add("Conv", x, macs=100, shape=shape)
    y = net.add("Relu", y, shape=shape)
    y = net.add("Conv", y, macs=200, shape=shape)
    return net.add("Relu", net.add("Add", y, x, shape=shape), shape=shape)


def blocks(count: int) -> ComputeGraph:
    net = Net()
    x = "image"
    for _ in range(count):
        x = residual(net, x)
    return net.graph(net.add("GlobalAvgPool", x, shape=(1, 8, 1, 1)))


def repeats(graph: ComputeGraph, likeness: Likeness = Likeness.EXACT) -> list[tuple[int, int]]:
    """(length, count) of the repeats at the top."""
    items = collapse(wire(graph), likeness)
    return [(item.period, item.count) for item in items if isinstance(item, Repeat)]


Point = tuple[float, float]


@dataclass
class Picture:
    """What a picture shows, in its own pixels: corners of boxes and frames, points along edges, all texts."""

    width: float
    height: float
    texts: list[str] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    frames: list[tuple[float, float, float, float]] = field(default_factory=list)
    edges: list[list[Point]] = field(default_factory=list)
    arrows: list[Point] = field(default_factory=list)


def look(svg: str) -> Picture:
    root = ElementTree.fromstring(svg.encode())
    picture = Picture(float(root.get("width", "")), float(root.get("height", "")))

    def walk(element: ElementTree.Element, dx: float, dy: float) -> None:
        if shift := re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", "")):
            dx, dy = dx + float(shift[1]), dy + float(shift[2])
        for child in element:
            if child.tag == NS + "rect" and "rx" in child.attrib:
                x, y = dx + float(child.get("x", 0)), dy + float(child.get("y", 0))
                corners = (x, y, x + float(child.get("width", "")), y + float(child.get("height", "")))
                (picture.frames if child.get("rx") == "8" else picture.boxes).append(corners)
            elif child.tag == NS + "path" and child.find(NS + "title") is not None:
                points = [(x + dx, y + dy) for x, y in follow(child.get("d", ""))]
                picture.edges.append(points)
                if "marker-end" in child.attrib:
                    picture.arrows.append(points[-1])
            elif child.tag == NS + "text":
                picture.texts.append(child.text or "")
            if child.tag != NS + "defs":
                walk(child, dx, dy)

    walk(root, 0.0, 0.0)
    return picture


def follow(way: str) -> Iterator[Point]:
    """Points along a path of absolute M, V, H and C and relative q."""
    x = y = 0.0
    for command, numbers in re.findall(r"([MVHCq])([^MVHCq]*)", way):
        a = [float(number) for number in re.findall(r"-?[\d.]+", numbers)]
        start = (x, y)
        if command == "C":
            for step in range(1, 17):
                t, u = step / 16, 1 - step / 16
                weights = (u**3, 3 * u * u * t, 3 * u * t * t, t**3)
                yield (
                    sum(w * value for w, value in zip(weights, (start[0], *a[0::2]), strict=True)),
                    sum(w * value for w, value in zip(weights, (start[1], *a[1::2]), strict=True)),
                )
            x, y = a[4], a[5]
            continue
        if command == "q":
            x, y = x + a[2], y + a[3]
        else:
            x, y = a if command == "M" else (x, a[0]) if command == "V" else (a[0], y)
        steps = 8 if command in "VH" else 1
        for step in range(1, steps + 1):
            part = step / steps if command in "VH" else 1.0
            yield start[0] + (x - start[0]) * part, start[1] + (y - start[1]) * part


def is_tidy(picture: Picture) -> None:
    """Boxes apart from each other, inside or outside of frames but not half; no edge through a box; all on the page."""
    for index, a in enumerate(picture.boxes):
        for b in picture.boxes[:index]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    for a in picture.frames:
        for b in (*picture.boxes, *(frame for frame in picture.frames if frame is not a)):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            inside = a[0] <= b[0] and b[2] <= a[2] and a[1] <= b[1] and b[3] <= a[3]
            around = b[0] <= a[0] and a[2] <= b[2] and b[1] <= a[1] and a[3] <= b[3]
            assert apart or inside or around, (a, b)
    for x, y in (point for edge in picture.edges for point in edge):
        assert 0 <= x <= picture.width
        assert 0 <= y <= picture.height
        assert not any(b[0] + 1 < x < b[2] - 1 and b[1] + 1 < y < b[3] - 1 for b in picture.boxes), (x, y)
    for x, y in picture.arrows:
        assert any(b[0] < x < b[2] and abs(b[1] - y) < 0.3 for b in picture.boxes), (x, y)
    for x0, y0, x1, y1 in picture.boxes:
        assert 0 <= x0 < x1 <= picture.width
        assert 0 <= y0 < y1 <= picture.height


def scramble(size: int) -> ComputeGraph:
    """A graph in which nothing repeats."""
    generator, net = random.Random(0), Net()
    names = ["image"]
    for _ in range(size):
        inputs = dict.fromkeys([names[-1], generator.choice(names)])
        op = generator.choice(["Conv", "Add", "Mul", "Concat", "Sigmoid"])
        names.append(net.add(op, *inputs, macs=10 * (op == "Conv")))
    return net.graph(names[-1])


def ladder(size: int) -> ComputeGraph:
    """A U: every step down is read again on the way up."""
    net, x = Net(), "image"
    steps = []
    for level in range(size):
        x = net.add("Conv", x, macs=50, shape=(1, 8 << level, 64 >> level, 64 >> level))
        steps.append(x)
    for level, step in reversed(list(enumerate(steps[:-1]))):
        shape = (1, 8 << level, 64 >> level, 64 >> level)
        x = net.add("Resize", net.add("Conv", x, macs=70, shape=shape), shape=shape)
        x = net.add("Concat", x, step, shape=shape)
    return net.graph(x)


GRAPHS: dict[str, Callable[[], ComputeGraph]] = {
    "resnet18": lambda: read_onnx(RESNET18),
    "nas-bench-201": lambda: read(CELL),
    "blocks": lambda: blocks(12),
    "ladder": lambda: ladder(5),
    "scramble": lambda: scramble(60),
    "large scramble": lambda: scramble(1500),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("canonical", [True, False])
def test_nothing_overlaps(name, canonical):
    is_tidy(look(to_svg(GRAPHS[name](), canonical=canonical)))


@pytest.mark.parametrize("name", LIGHT)
def test_nothing_overlaps_in_well_known_networks(name, onnx_light):
    picture = look(to_svg(read_onnx(onnx_light / f"light_{name}.onnx")))
    is_tidy(picture)
    assert len(picture.boxes) < 130


def test_says_what_a_network_is():
    texts = look(to_svg(read_onnx(RESNET18))).texts
    assert texts[0] == "resnet18.onnx"  # no folder: a picture is passed on
    # torchvision's table: 11,689,512 parameters and 1.81 "GFLOPS", which are MACs
    assert texts[1] == "1.81 G MACs · 3.63 G FLOPs (FLOPs = 2 × MACs) · 11.7 M parameters"
    assert "69 operations" in texts[2]
    for text in ("Conv 7×7 /2", "1×64×112×112", "MaxPool 3×3 /2", "input image", "output logits", "1×1000"):
        assert text in texts


def test_shares_of_macs():
    texts = look(to_svg(read_onnx(RESNET18))).texts
    conv1 = 112 * 112 * 64 * 3 * 49
    block = 2 * 56 * 56 * 64 * 64 * 9
    assert f"{100 * conv1 / 1_814_073_344:.2f} %" in texts
    assert "× 2" in texts  # the two blocks of the first stage, whose halves cost the same
    assert f"{100 * 2 * block / 1_814_073_344:.1f} % of MACs" in texts
    assert texts.count(f"2 × {100 * block / 2 / 1_814_073_344:.2f} %") == 2


def test_blocks_are_drawn_once():
    graph = blocks(12)
    assert repeats(graph) == [(5, 12)]
    texts = look(to_svg(graph)).texts
    assert texts.count("Conv") == 2
    assert "× 12" in texts
    assert "100 % of MACs" in texts
    assert "12 × 2.78 %" in texts  # 100 of 3600 MACs
    assert "12 × 5.56 %" in texts


def test_blocks_are_found_in_any_order_of_nodes():
    graph = blocks(12)
    generator = random.Random(1)
    left = list(graph.operations)
    generator.shuffle(left)
    order: list[Operation] = []
    known: set[str] = set()
    while left:
        operation = next(each for each in left if known.issuperset(each.inputs))
        left.remove(operation)
        order.append(operation)
        known.update(operation.outputs)
    shuffled = graph.with_operations(order)
    (repeat,) = [
        item for item in collapse(wire(shuffled, depth_first_order(shuffled))) if isinstance(item, Repeat)
    ]
    assert (repeat.period, repeat.count) == (5, 12)
    assert look(to_svg(shuffled)).texts == look(to_svg(graph)).texts


def test_block_begins_where_the_residual_does():
    """The tail of a block that differs looks like that of its like: not the first place that matches counts."""
    net = Net()
    x = net.add("Conv", "image", macs=7)
    x = net.add("Relu", net.add("Add", net.add("Conv", x, macs=3), net.add("Conv", x, macs=5)))
    first = len(net.operations)
    for _ in range(4):
        x = residual(net, x)
    (repeat,) = [item for item in collapse(wire(net.graph(x))) if isinstance(item, Repeat)]
    assert (repeat.start, repeat.period, repeat.count) == (first, 5, 4)


def test_a_repeat_ends_where_its_result_is_read_again():
    net, x = Net(), "image"
    for _ in range(3):
        x = residual(net, x)
    middle = x
    for _ in range(3):
        x = residual(net, x)
    graph = net.graph(net.add("Concat", x, middle, shape=(1, 16, 4, 4)))
    assert repeats(graph) == [(5, 3), (5, 3)]


def test_what_every_block_reads_stays_outside():
    net = Net()
    mask = net.add("Sigmoid", "image")
    x = net.add("Conv", "image", macs=1)
    for _ in range(6):
        x = net.add("Relu", net.add("Mul", net.add("Conv", x, macs=9), mask))
    assert repeats(net.graph(x)) == [(3, 6)]
    texts = look(to_svg(net.graph(x))).texts
    assert texts.count("Mul") == 1
    assert texts.count("Sigmoid") == 1


def test_blocks_of_other_shapes_differ():
    net, x = Net(), "image"
    for channels in (8, 16, 24, 32):
        x = residual(net, x, channels)
    assert repeats(net.graph(x)) == []
    assert repeats(net.graph(x), Likeness.CHANNELS_DIFFER) == [(5, 4)]


def test_branches_in_parallel():
    net = Net()
    branches = [
        net.add("Relu", net.add("Conv", net.add("Relu", net.add("Conv", "image", macs=4)), macs=6))
        for _ in range(5)
    ]
    graph = net.graph(net.add("Concat", *branches, shape=(1, 40, 4, 4)))
    assert repeats(graph) == [(4, 5)]
    picture = look(to_svg(graph))
    assert "in parallel · 100 % of MACs" in picture.texts
    is_tidy(picture)


def test_chains_of_lookalikes_wired_otherwise_are_no_repeat():
    """Query, key and value look alike, but what reads them does not."""
    net = Net()
    query, key, value = (
        net.add("Relu", net.add("Conv", net.add("Relu", net.add("Conv", "image", macs=4)), macs=6))
        for _ in range(3)
    )
    scores = net.add("Softmax", net.add("MatMul", query, key, macs=8))
    assert repeats(net.graph(net.add("MatMul", scores, value, macs=8))) == []


@pytest.mark.parametrize("likeness", Likeness)
@pytest.mark.parametrize("name", [name for name in GRAPHS if name != "large scramble"])
def test_every_mac_is_in_one_box(name, likeness):
    graph = GRAPHS[name]()
    wiring = wire(graph, depth_first_order(graph))
    panel = build(wiring, collapse(wiring, likeness), likeness is Likeness.EXACT, graph.macs)

    def shares(part: Panel) -> float:
        return sum(shares(node.panel) if node.panel else node.share for node in part.nodes)

    assert shares(panel) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [1500, 7000])
def test_large_graphs_stay_bounded(size):
    svg = to_svg(scramble(size))
    assert len(svg) < 3_000_000
    picture = look(svg)
    assert len(picture.boxes) <= 130
    assert any(text.startswith("too many operations to draw") for text in picture.texts)
    drawn = [int(match[1]) for text in picture.texts if (match := re.fullmatch(r"(\d+) operations?", text))]
    stated = next(
        re.search(r"([\d,]+) in the canonical form", text) for text in picture.texts if "canonical" in text
    )
    assert sum(drawn) == int(stated[1].replace(",", "")) + 2  # the input and the output are drawn too


def test_a_long_chain_of_lookalikes_is_one_block():
    net, x = Net(), "image"
    for _ in range(3500):
        x = net.add("Relu", net.add("Conv", x, macs=2))
    texts = look(to_svg(net.graph(x))).texts
    assert "× 3500" in texts
    assert texts.count("Conv") == 1


def test_tall_pictures_are_set_in_columns():
    net, x = Net(), "image"
    for channels in range(60):
        x = net.add("Conv", x, macs=1, shape=(1, channels + 1, 4, 4), name=f"conv{channels}")
    picture = look(to_svg(net.graph(x), canonical=False))
    assert picture.height < 2000
    is_tidy(picture)


HOSTILE = (
    "</title></text><script>alert(1)</script><!--",
    "a\x00b\x1bc\x07",
    "\"'><g onload=alert(1)>&lt;&amp;",
    "]]><![CDATA[ <?xml ?> &entity; %param;",
    "\ud800 lone surrogate \udfff",
    "\u202ereversed\u2066 \ufffe\uffff \u2028",
    "x" * 100_000,
    "\U0001f600" * 50,
    "",
)
TAGS = "svg title desc defs marker linearGradient stop g rect path text".split()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name):
    net = Net()
    net.add("Conv", "image", macs=5, name=name or " ")
    net.add("Unknown", name or " ", name="unknown")
    graph = net.graph("unknown", name=name)
    graph.operations[0].name = graph.operations[2].onnx_type = name
    svg = to_svg(graph)
    root = ElementTree.fromstring(svg.encode())
    assert {element.tag for element in root.iter()} <= {NS + tag for tag in TAGS}
    for element in root.iter():
        assert not any(key.startswith("on") or "href" in key or key == "style" for key in element.attrib)
        assert not any(
            value.startswith("url(") and not value.startswith("url(#") for value in element.attrib.values()
        )
    assert len(svg) < 20_000
    is_tidy(look(svg))


def test_names_are_shown_as_they_are():
    net = Net()
    net.add("Conv", "image", macs=5, name='<b> & "c"')
    root = ElementTree.fromstring(to_svg(net.graph('<b> & "c"'), canonical=False).encode())
    titles = [element.text.splitlines()[0] for element in root.iter(NS + "title")]
    assert '<b> & "c"' in titles


def test_colours_are_ordered_and_readable():
    def luminance(text: str) -> float:
        channels = [int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    shades = [luminance(colour(share / 200, 1.0)) for share in range(0, 201, 10)]
    assert colour(0.0, 1.0) == "#ffffff"
    assert all(darker < lighter for lighter, darker in pairwise(shades))
    boxes = to_svg(blocks(2)).split("</defs>")[1].split('rx="4"', 1)[1]
    inks = {"#1c2530", *re.findall(r'<text[^>]* fill="(#\w+)"', boxes)}
    assert len(inks) == 2
    for ink in inks:
        assert (min(shades) + 0.05) / (luminance(ink) + 0.05) > 4.5  # WCAG AA


def test_a_network_without_macs_has_no_legend():
    net = Net()
    texts = look(to_svg(net.graph(net.add("Relu", "image")))).texts
    assert "share of MACs:" not in texts
    assert "0 MACs · 0 FLOPs (FLOPs = 2 × MACs) · 0 parameters" in texts


def test_a_network_without_operations():
    is_tidy(look(to_svg(Net().graph("image"))))


def test_the_same_network_gives_the_same_picture():
    graph = read(CELL)
    assert to_svg(graph) == to_svg(graph)
