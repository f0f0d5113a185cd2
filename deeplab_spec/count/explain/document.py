"""The JSON document of ``count --explain``, and the function that makes it."""

from deeplab_spec.analysis.costs import Number
from deeplab_spec.count.explain.figures import Figure, Quantity
from deeplab_spec.count.explain.search import Explanation, Fit, Match
from deeplab_spec.result import ExitCode, Result
from deeplab_spec.views.document import Document, Model


class FigureModel(Model):
    """A printed figure, and what was tried for it.

    ``number`` is in thousands to the power of ``power``; ``tolerance`` is half a unit of its last digit. ``by_chance``
    is the number of candidates that a figure of this size and number of digits meets by chance.
    """

    text: str
    number: float
    tolerance: float
    power: int
    digits: int
    tried: int
    matches: int
    by_chance: float


class CountedModel(Model):
    """How one figure is counted.

    ``count`` is the exact count, ``printed`` the same in the figure's unit, and ``residual`` its relative difference
    from the figure. ``part`` is empty for the whole network. ``stored`` says what is counted of parameters, ``unit``
    what the printed unit stands for if not plain numbers. ``convention``, ``factor``, ``size``, ``scales`` and ``flip``
    are those of operations.
    """

    figure: str
    quantity: Quantity
    count: Number
    printed: float
    residual: float
    part: str
    stored: str | None = None
    unit: str | None = None
    convention: str | None = None
    factor: int | None = None
    size: tuple[int, int] | None = None
    scales: tuple[float, ...] | None = None
    flip: bool | None = None
    title: str | None = None


class FitModel(Model):
    """One explanation of all figures.

    ``output_strides`` and ``classes`` are those with exactly these counts; null if every one that was tried has them.
    ``unusual`` ranks the fits: 0 is what ``count`` prints by itself.
    """

    network: str
    output_strides: tuple[int, ...] | None
    classes: tuple[int, ...] | None
    unusual: int
    figures: tuple[CountedModel, ...]


class ExplainDocument(Result, Document):
    """The document of ``count --explain --json``.

    ``fits`` start with the most usual. ``ambiguous`` is true if there are several: the figures do not say which.
    ``by_chance`` is the number of fits to expect if the figures had nothing to do with the networks. Without a fit,
    ``nearest`` has the closest counts of every figure. ``networks`` is how many were tried, each at its output strides.
    """

    figures: tuple[FigureModel, ...]
    networks: int
    tried: int
    by_chance: float
    ambiguous: bool
    fits: tuple[FitModel, ...]
    nearest: tuple[tuple[CountedModel, ...], ...]

    @property
    def exit_code(self) -> ExitCode:
        """The exit status of ``count --explain``."""
        return ExitCode.DONE if self.fits else ExitCode.DIFFERENT

    @property
    def text(self) -> str:
        """The table and the lines below it that ``count --explain`` prints."""
        from deeplab_spec.count.explain.text import explain_grid, explain_summary
        from deeplab_spec.views.table import plain

        return f"{plain(explain_grid(self))}\n{explain_summary(self)}"

    @property
    def summary(self) -> str:
        """How many explanations there are."""
        from deeplab_spec.count.explain.text import verdict

        return verdict(self)


def explain_document(found: Explanation) -> ExplainDocument:
    """Return the document of an explanation of figures."""
    figures = [trial.figure for trial in found.trials]
    return ExplainDocument(
        figures=tuple(
            FigureModel(
                text=trial.figure.text,
                number=trial.figure.number,
                tolerance=trial.figure.tolerance,
                power=trial.figure.power,
                digits=trial.figure.digits,
                tried=trial.tried,
                matches=len(trial.matches),
                by_chance=trial.by_chance,
            )
            for trial in found.trials
        ),
        networks=len(found.output_strides),
        tried=sum(trial.tried for trial in found.trials),
        by_chance=found.by_chance,
        ambiguous=len(found.fits) > 1,
        fits=tuple(_fit(fit, figures, found) for fit in found.fits),
        nearest=tuple(
            tuple(_counted(match, figure) for match in matches)
            for matches, figure in zip(found.nearest, figures, strict=False)
        ),
    )


def _fit(fit: Fit, figures: list[Figure], found: Explanation) -> FitModel:
    return FitModel(
        network=fit.network,
        output_strides=_if_some(fit.output_strides, found.output_strides[fit.network]),
        classes=_if_some(fit.classes, found.classes[fit.network]),
        unusual=fit.unusual,
        figures=tuple(_counted(match, figure) for match, figure in zip(fit.matches, figures, strict=True)),
    )


def _if_some(values: frozenset[int], tried: frozenset[int]) -> tuple[int, ...] | None:
    """Return the values in order; None if they are all of several that were tried."""
    return None if values == tried and len(tried) > 1 else tuple(sorted(values))


def _counted(match: Match, figure: Figure) -> CountedModel:
    way = match.way
    return CountedModel(
        figure=figure.text,
        quantity=way.quantity,
        count=match.count,
        printed=match.printed,
        residual=match.residual,
        part=way.view.name,
        stored=way.form or None,
        unit=way.unit.name or None,
        convention=way.counting.convention.name if way.counting else None,
        factor=way.counting.factor if way.counting else None,
        size=way.size,
        scales=tuple(map(float, way.protocol.scales)) if way.protocol else None,
        flip=way.protocol.flip if way.protocol else None,
        title=way.counting.convention.title if way.counting else None,
    )
