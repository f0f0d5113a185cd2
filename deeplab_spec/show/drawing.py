"""The drawing of a network as a self-contained SVG file.

The backbone runs down on the left; ASPP and decoder run up on the right, so that the low-level
features cross from left to right at the height of the entry flow.
"""

import textwrap
from dataclasses import replace

from deeplab_spec.analysis.sizes import Shape
from deeplab_spec.show.rows import Row, network_rows
from deeplab_spec.show.shapes import Box, Drawing, Note, Panel, Point, Wire
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import Interpolation, written
from deeplab_spec.views.table import shape
from deeplab_spec.views.template import render

LINE, MARGIN = 15, 13
BACKBONE, CHANNEL, HEAD = (20, 420), 184, 720
COLUMN = 250
"""The horizontal centre of the backbone, in pixels."""
BLOCK_WIDTH, UNIT_WIDTH, LOW_WIDTH, BRANCH_WIDTH, BRANCH_GAP = 256, 250, 150, 128, 10
BLOCK_LETTERS = 35
"""The letters that fit a block of the backbone."""
TOP, PANEL_TOP = 112, 64
CAPTION_LINE, CAPTION_WIDTH = 16, 165
GAP, SUM_GAP = 34, 56
FILLS = {"backbone": "#dbe7f3", "aspp": "#e3efd9", "decoder": "#f8e6d0", "output": "#f8e6d0"}


def drawing(subject: Subject) -> str:
    """Return the drawing of a network as SVG.

    Raises:
        GraphError: If the choices do not fit together at the subject's size.
    """
    return render("network.svg.j2", d=lay_out(subject))


def lay_out(subject: Subject) -> Drawing:
    """Return the drawing of a network with all elements in place.

    Raises:
        GraphError: If the choices do not fit together at the subject's size.
    """
    rows = network_rows(subject)
    height, width = subject.size
    title = f"output stride {subject.output_stride}, {height}x{width}, {subject.classes} classes"
    drawing = Drawing(title=f"DeepLabV3+: {subject.variant.name}, {title}", captions=_captions(subject))
    backbone = [row for row in rows if row.path.startswith("backbone.")]
    bottom = _backbone(drawing, backbone, subject)
    bus = bottom + GAP
    top = _head(drawing, rows, bus, subject)
    captions = CAPTION_LINE * (len(drawing.captions) - 1)
    _shift_down(drawing, captions + max(0.0, TOP - 40 - top))
    _panels(drawing, PANEL_TOP + captions)
    return drawing


def _captions(subject: Subject) -> tuple[str, ...]:
    """Return the lines below the title: the activations, and the overridden choices."""
    second = "; a second head reads the third stage" if subject.rows().auxiliary else ""
    text = f"{subject.choices.activations}{second}; shapes are channels x height x width"
    if not subject.overrides:
        return (text,)
    overrides = ", ".join(f"{name}={written(value)}" for name, value in subject.overrides.items())
    return (text, *textwrap.wrap(f"with {overrides}", CAPTION_WIDTH, break_on_hyphens=False))


def _text(row: Row) -> tuple[str, ...]:
    name = row.path.removeprefix("backbone.")
    if row.layers.endswith("separable"):
        number = row.layers.split()[0]
        return (name, f"{number} x separable 3x3, {', '.join(map(str, row.channels))}", _steps(row))
    if len(row.channels) > 1:
        channels = ", ".join(map(str, row.channels))
        together = f"{row.layers}: {channels}"
        return (name, *((together,) if len(together) <= BLOCK_LETTERS else (row.layers, channels)), _steps(row))
    if name.endswith(".resize"):
        return (name, row.layers if row.layers == Interpolation.NEAREST else f"bilinear, {row.layers}")
    if not row.channels:
        return (name, row.layers)
    return (name, f"{row.layers}, {row.channels[0]}{_suffix(row)}")


def _suffix(row: Row) -> str:
    stride = f", stride {row.stride}" if row.stride > 1 else ""
    rate = f", rate {row.rates[0]}" if max(row.rates, default=1) > 1 else ""
    dropout = f", dropout {row.dropout:g}" if row.dropout else ""
    return stride + rate + dropout


def _steps(row: Row) -> str:
    rates = row.rates if len(set(row.rates)) > 1 else row.rates[:1]
    return f"stride {row.stride}, {'rates' if len(rates) > 1 else 'rate'} {', '.join(map(str, rates))}"


def _box(row: Row, x: float, y: float, width: float) -> Box:
    lines = _text(row)
    fill = FILLS[row.path.split(".")[0]]
    copies = 2 if row.count > 1 else 0
    height = LINE * len(lines) + MARGIN
    return Box(x=x, y=y, width=width, height=height, lines=lines, fill=fill, copies=copies)


def _backbone(drawing: Drawing, rows: list[Row], subject: Subject) -> float:
    """Draw the left column; return the vertical position of its last value."""
    left = COLUMN - BLOCK_WIDTH / 2
    image = shape((subject.rows().backbone.channels_in, *subject.size))
    y: float = TOP
    drawing.notes.append(Note(x=COLUMN + 8, y=y - 14, text=f"image {image}"))
    above: Point = (COLUMN, y - 26)
    tap = subject.network().tap("low_level") if subject.rows().decoder.low_level else ""
    for row in rows:
        box = _box(row, left, y, BLOCK_WIDTH)
        drawing.boxes.append(box)
        drawing.wires.append(Wire(points=(above, (COLUMN, y - 4.0 * box.copies))))
        if row.count > 1:
            times = Note(x=left + BLOCK_WIDTH + 16, y=box.centre + 5, text=f"x {row.count}", style="name")
            drawing.notes.append(times)
        end = box.bottom
        if row.skip:
            end = _skip(drawing, row, box, y)
        inside = next((tap.removeprefix(f"{path}.") for path in row.blocks if tap.startswith(f"{path}.")), "")
        if inside:
            _tap(drawing, inside.split("."), box, end)
        y = box.bottom + (SUM_GAP if row.skip else GAP)
        above = (COLUMN, end)
        drawing.notes.append(Note(x=COLUMN + 8, y=y - 12, text=shape(row.output)))
    return y - GAP


def _skip(drawing: Drawing, row: Row, box: Box, top: float) -> float:
    """Draw a block's skip and sum; return the bottom of the sum."""
    at = (COLUMN, box.bottom + 19.0)
    bend = box.x - 18
    start = top - 12.0 - 4 * box.copies
    drawing.sums.append(at)
    drawing.wires.append(Wire(points=((COLUMN, box.bottom), (COLUMN, at[1] - 8))))
    drawing.wires.append(Wire(points=((COLUMN, start), (bend, start), (bend, at[1]), (COLUMN - 8, at[1]))))
    lines = [row.skip, f"stride {row.stride}"] if row.stride > 1 else [row.skip]
    for number, text in enumerate(lines):
        y = box.centre + 4 + 14 * (number - (len(lines) - 1) / 2)
        drawing.notes.append(Note(x=bend - 6, y=y, text=text, anchor="end"))
    return at[1] + 8


def _tap(drawing: Drawing, inner: list[str], box: Box, end: float) -> None:
    """Start the line of the low-level features, at a path inside a block; the head completes it."""
    if inner[0].startswith("sepconv"):
        at: Point = (box.x + box.width, box.centre)
        activated = inner[-1] == "activation"
        unit = "sepconv2" if inner[0] == "sepconv3" else inner[0]
        label = f"{unit}, {'after' if activated else 'before'} ReLU"
        drawing.notes.append(Note(x=BACKBONE[0] + BACKBONE[1] + 10, y=at[1] + 15, text=label))
    elif inner[0] in {"add", "activation"}:
        at = (COLUMN + 8, end - 8)
    elif len(inner) > 1:  # a value inside the block
        at = (box.x + box.width, box.centre)
        activated = inner[-1] == "activation"
        label = f"{inner[0]}, {'activated' if activated else 'before the sum'}"
        drawing.notes.append(Note(x=BACKBONE[0] + BACKBONE[1] + 10, y=at[1] + 15, text=label))
    else:
        at = (COLUMN, end + 7)
    drawing.wires.append(Wire(points=(at,), tap=True))


def _head(drawing: Drawing, rows: tuple[Row, ...], bus: float, subject: Subject) -> float:
    """Draw the right side from the bottom up; return its top."""
    left = BACKBONE[0] + BACKBONE[1] + CHANNEL
    middle = left + HEAD / 2
    y = _branches(drawing, rows, bus, left, subject)
    value: Point = (middle, y)
    output: Row | None = next(row for row in rows if row.path == "aspp.concat")
    low = next((row for row in rows if row.path == "decoder.low_level"), None)
    features = (subject.rows().backbone.low_level_channels, *(low.output[1:] if low else (0, 0)))
    done = ("aspp.conv1x1", "aspp.atrous", "aspp.pool", "aspp.concat", "decoder.low_level", "backbone.", "auxiliary.")
    for row in rows:
        if row.path.startswith(done):
            continue
        joins = row.path == "decoder.concat"
        height = LINE * len(_text(row)) + MARGIN
        box = _box(row, middle - UNIT_WIDTH / 2, value[1] - GAP - height, UNIT_WIDTH)
        drawing.boxes.append(box)
        drawing.wires.append(Wire(points=(value, (middle, box.bottom))))
        if output:
            drawing.notes.append(Note(x=middle + 8, y=value[1] - 13, text=shape(output.output)))
        if joins and low:
            _low_level(drawing, low, features, box)
        value, output = (middle, box.y), row
    drawing.wires.append(Wire(points=(value, (middle, value[1] - 26))))
    if output:
        drawing.notes.append(Note(x=middle + 8, y=value[1] - 14, text=f"logits {shape(output.output)}"))
    return value[1] - 40


def _branches(drawing: Drawing, rows: tuple[Row, ...], bus: float, left: float, subject: Subject) -> float:
    """Draw the parallel branches and their concatenation; return the upper edge."""
    branches = [row for row in rows if row.path.startswith(("aspp.conv1x1", "aspp.atrous", "aspp.pool"))]
    table = subject.rows().aspp
    readers = {row.path: source for row, source in zip(table.atrous, table.inputs, strict=True)}
    if table.pool and table.pool_first:
        branches = [branches[-1], *branches[:-1]]
    step = BRANCH_WIDTH + BRANCH_GAP
    start = left + (HEAD - step * len(branches) + BRANCH_GAP) / 2
    height = 4 * LINE + MARGIN
    y = bus - 26 - height
    concat = next(row for row in rows if row.path == "aspp.concat")
    bar = Box(
        x=start,
        y=y - 26 - 28,
        width=step * len(branches) - BRANCH_GAP,
        height=28,
        lines=(f"aspp.concat, {concat.output[0]} channels",),
        fill=FILLS["aspp"],
    )
    reached = start
    for number, row in enumerate(branches):
        x = start + number * step
        source = readers.get(row.path)
        text = _branch_text(row) if source is None else (*_branch_text(row)[:3], f"of {table.atrous[source].path}")
        box = replace(_box(row, x, y, BRANCH_WIDTH), height=height, lines=text)
        drawing.boxes.append(box)
        if source is None:
            reached = box.middle
            drawing.wires.append(Wire(points=((box.middle, bus), (box.middle, box.bottom))))
        drawing.wires.append(Wire(points=((box.middle, box.y), (box.middle, bar.bottom))))
    drawing.boxes.append(bar)
    drawing.wires.append(Wire(points=((COLUMN, bus - GAP), (COLUMN, bus), (reached, bus)), tip=False))
    drawing.height = bus + 60
    drawing.width = left + HEAD + 20
    return bar.y


def _branch_text(row: Row) -> tuple[str, ...]:
    if row.path == "aspp.pool":
        return ("aspp.pool", "mean of the map", f"conv 1x1, {row.channels[0]}", "resize to the map")
    rate = f"rate {'x'.join(map(str, row.rates))}" if not row.layers.endswith("1x1") else ""
    return tuple(line for line in (row.path, row.layers, rate, f"{row.channels[0]} channels") if line)


def _low_level(drawing: Drawing, low: Row, features: Shape, concat: Box) -> None:
    """Complete the line of the low-level features, through their projection."""
    left = BACKBONE[0] + BACKBONE[1] + CHANNEL
    height = 3 * LINE + MARGIN
    lines = (low.path, low.layers, f"{low.channels[0]} channels")
    box = replace(_box(low, left + 16, concat.centre - height / 2, LOW_WIDTH), height=height, lines=lines)
    drawing.boxes.append(box)
    drawing.wires.append(Wire(points=((box.x + box.width, concat.centre), (concat.x, concat.centre))))
    drawing.notes.append(Note(x=box.x + box.width + 6, y=concat.centre - 6, text=str(low.output[0])))
    start = next(wire for wire in drawing.wires if wire.tap)
    drawing.wires.remove(start)
    ((x, y),) = start.points
    bend = left - 22
    points = ((x, y), (bend, y), (bend, concat.centre), (box.x, concat.centre))
    drawing.wires.append(Wire(points=points, tap=True))
    note = f"low_level {shape(features)}"
    drawing.notes.append(Note(x=BACKBONE[0] + BACKBONE[1] + 10, y=y - 6, text=note))


def _shift_down(drawing: Drawing, distance: float) -> None:
    """Make room at the top if the head is taller than the backbone."""
    drawing.height += distance
    drawing.boxes = [replace(box, y=box.y + distance) for box in drawing.boxes]
    drawing.notes = [replace(note, y=note.y + distance) for note in drawing.notes]
    drawing.sums = [(x, y + distance) for x, y in drawing.sums]
    drawing.wires = [replace(wire, points=tuple((x, y + distance) for x, y in wire.points)) for wire in drawing.wires]


def _panels(drawing: Drawing, top: float) -> None:
    """Add a background for each part."""
    bottom = drawing.height - 20
    left = BACKBONE[0] + BACKBONE[1] + CHANNEL
    head = max(top, min(box.y for box in drawing.boxes if box.fill == FILLS["decoder"]) - 60)
    aspp = min(box.y for box in drawing.boxes if box.fill == FILLS["aspp"]) - GAP / 2
    drawing.panels = [
        Panel(name="BACKBONE", x=BACKBONE[0], y=top, width=BACKBONE[1], height=bottom - top),
        Panel(name="DECODER", x=left, y=head, width=HEAD, height=aspp - head - 8),
        Panel(name="ASPP", x=left, y=aspp, width=HEAD, height=bottom - aspp),
    ]
