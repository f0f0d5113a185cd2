"""What one network costs under every convention: the document behind its cost report."""

from deeplab_spec.analysis.conventions import CONVENTIONS, FULL, MAC, TFPROF, Convention, undivided_weight_gradients
from deeplab_spec.analysis.costs import Number, Values, block_costs, evaluate, node_costs, total_cost
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.subject import Subject
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.count.document import CountDocument, FiguresModel, PublishedModel, TotalModel, count_document
from deeplab_spec.graph.network import Network
from deeplab_spec.views.document import Model


class TrainBlockModel(FiguresModel):
    """What a training step costs in one block."""

    path: str


class TrainModel(Model):
    """What a training step costs; ``macs`` is what the convention ``full`` counts."""

    total: TotalModel
    blocks: tuple[TrainBlockModel, ...]


class ConventionModel(Model):
    """A network's total under one convention; ``train`` is null where that counts no backward pass.

    ``prediction`` says that the convention is one of published figures, but this is none of them.
    """

    convention: str
    unit: str
    title: str
    forward: Number
    train: Number | None
    published: PublishedModel | None
    prediction: bool


class CostReport(CountDocument):
    """The document of ``count --convention full``, and what a report needs besides.

    ``multiply_adds`` are those of convolutions, by block. ``torch_undivided`` is how much more than
    the convention ``torch`` a FlopCounterMode says of a training step that does not divide the
    weight gradients of grouped convolutions by their groups.
    """

    multiply_adds: dict[str, int]
    train: TrainModel
    totals: tuple[ConventionModel, ...]
    torch_undivided: int

    @property
    def name(self) -> str:
        """The name of its files, without an ending."""
        return f"{self.variant}-os{self.output_stride}"


def cost_report(subject: Subject) -> CostReport:
    """Count one network under every convention.

    Raises:
        GraphError: If the choices do not fit together at this size.
    """
    graph = subject.network()
    known = shapes(graph, subject.size)
    full = count_document(subject, convention=FULL)
    train = count_document(subject, convention=FULL, mode=Mode.TRAIN)
    reconstructed = count_document(subject, convention=TFPROF)
    macs = {block.path: int(block.operations) for block in block_costs(node_costs(graph, known, MAC))}
    figures = set(FiguresModel.model_fields)
    return CostReport(
        **dict(full),
        multiply_adds={block.path: macs[block.path] for block in full.blocks},
        train=TrainModel(
            total=train.total,
            blocks=tuple(
                TrainBlockModel(path=block.path, **block.model_dump(include=figures)) for block in train.blocks
            ),
        ),
        totals=tuple(
            ConventionModel(
                convention=convention.name,
                unit=convention.unit,
                title=convention.title,
                forward=_total(graph, known, convention, Mode.FORWARD),
                train=_total(graph, known, convention, Mode.TRAIN) if Mode.TRAIN in convention.modes else None,
                published=reconstructed.published if convention is TFPROF else None,
                prediction=reconstructed.prediction and convention is TFPROF,
            )
            for convention in CONVENTIONS
        ),
        torch_undivided=sum(evaluate(undivided_weight_gradients(node), known) for node in graph),
    )


def _total(graph: Network, known: Values, convention: Convention, mode: Mode) -> Number:
    return total_cost(node_costs(graph, known, convention, mode)).operations
