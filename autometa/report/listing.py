"""Tables of what there is: learners, backbones, data sets, and a study's search space."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from rich.markup import escape
from rich.table import Table

from autometa.backbones import BACKBONES
from autometa.backbones.base import Condition
from autometa.config import StudyConfig
from autometa.episodes import DATASETS, options_type
from autometa.learners import LEARNERS
from autometa.learners.domains import Choice, Float, Int, Rates
from autometa.learners.rates import group_names
from autometa.registry import Registry
from autometa.search.domains import Fixed, describe
from autometa.search.rate_space import LEARNED, dimensions
from autometa.search.space import BackboneChoices, LearnerDomains, SearchSpace, rows

SHAPES = {1: (1,), 2: (1, 128), 3: (1, 28, 28)}


def table(title: str, columns: Iterable[str], body: Iterable[Iterable[Any]]) -> Table:
    """A plain table that folds long cells."""
    made = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for cells in body:
        made.add_row(*(escape(str(cell)) for cell in cells))
    return made


def rows_table(body: list[dict[str, Any]], title: str) -> Table:
    """Dicts of one shape as a table."""
    return table(title, list(body[0]), (row.values() for row in body))


def names_table(kind: str, registry: Registry) -> Table:
    """The members of a registry, each with the first line of its documentation."""
    body = ((name, _first_line(registry.load(name))) for name in registry)
    return table(f"{kind}s", (kind, "what it is"), body)


def _first_line(member: Any) -> str:
    module = __import__(member.__module__, fromlist=["__doc__"])
    return (module.__doc__ or member.__doc__ or "").strip().splitlines()[0]


def learner_table(name: str) -> Table:
    """A learner's hyper-parameters: default, domain, meaning."""
    learner = LEARNERS.load(name)
    body = (
        (f.name, _shown(f.default), describe(f.metadata["domain"]), f.metadata["meaning"])
        for f in dataclasses.fields(learner.hyper_type)
    )
    title = f"{name}: {learner.paper}"
    return table(title, ("hyper-parameter", "default", "domain", "meaning"), body)


def _shown(value: Any) -> str:
    return f"{value.mode} {value.values}" if hasattr(value, "values") else str(value)


def backbone_table(name: str) -> Table:
    """A backbone space's labels and options."""
    space = BACKBONES.load(name)()
    default = space.default()
    body = (
        (label, ", ".join(map(str, options)), default.get(label, ""))
        for label, options in space.choices(SHAPES[space.input_rank]).items()
    )
    return table(f"{name}: {space.summary}", ("label", "options", "published default"), body)


def data_table() -> Table:
    """Data sets and their options."""
    body = [
        (name, field.name, _default(field), field.metadata.get("meaning", ""))
        for name in DATASETS
        for field in dataclasses.fields(options_type(name))
    ] + [(name, "", "", "no options") for name in DATASETS if not _has_options(name)]
    return table("data sets", ("data set", "option", "default", "meaning"), sorted(body))


def _has_options(name: str) -> bool:
    return bool(dataclasses.fields(options_type(name)))


def _default(field: dataclasses.Field[Any]) -> str:
    return "required" if field.default is dataclasses.MISSING else str(field.default)


def space_table(space: SearchSpace) -> Table:
    """Every dimension of a search space: name, domain, when it is active."""
    body = ((name, describe(domain), active) for name, domain, active in rows(space))
    return table("search space", ("name", "domain", "active when"), body)


def size_estimate(space: SearchSpace, config: StudyConfig) -> str:
    """How many discrete combinations and continuous dimensions there are, and what is spent."""
    architectures = sum(_architectures(choices) for choices in space.backbones.values())
    methods = sum(_methods(learner) for learner in space.learners.values())
    fewest, most = _continuous(space)
    budget, many = config.budget, f"{_round(architectures)} architectures × {_round(methods)}"
    return (
        f"size: about {many} discrete settings of {len(space.learners)} learners, "
        f"with {fewest} to {most} continuous dimensions each; "
        f"budget: {budget.trials} trials of at most {budget.iterations} meta-iterations"
    )


def _round(count: float) -> str:
    """A count to one digit: ``900``, ``20,000``, ``3e+09``."""
    text = f"{count:.1g}"
    return text if count >= 1e7 else f"{round(float(text)):,}"


def _architectures(choices: BackboneChoices) -> float:
    """Networks of a backbone space: a label counts where what it depends on lets it matter."""
    depending: dict[str | None, list[tuple[str, Condition | None]]] = defaultdict(list)
    for label in choices.options:
        condition = choices.space.condition(label)
        depending[condition.label if condition else None].append((label, condition))

    def below(parent: str | None, chosen: Any) -> float:
        return math.prod(
            sum(below(label, option) for option in choices.options[label])
            for label, condition in depending[parent]
            if condition is None or condition.holds(chosen)
        )

    return below(None, None)


def _methods(learner: LearnerDomains) -> float:
    return math.prod(_options(domain) for domain in learner.domains.values())


def _options(domain: Any) -> int:
    match domain:
        case Choice(options):
            return len(options)
        case Int(low, high, _, step):
            return (high - low) // step + 1
        case Rates():
            owners = sum(1 if mode == LEARNED else len(domain.forms) for mode in domain.modes)
            return owners * len(domain.groups)
        case _:
            return 1


def _continuous(space: SearchSpace) -> tuple[int, int]:
    """Fewest and most continuous dimensions that a candidate can have."""
    counts = [_continuous_of(learner, space) for learner in space.learners.values()]
    return min(low for low, _ in counts), max(high for _, high in counts)


def _continuous_of(learner: LearnerDomains, space: SearchSpace) -> tuple[int, int]:
    domains = learner.domains
    low = high = sum(
        isinstance(domain, Float) and domain.low < domain.high for domain in domains.values()
    )
    for domain in domains.values():
        if isinstance(domain, Rates):
            steps, groups = _steps(domains[domain.steps]), _groups(learner, domain, space)
            low += min(_numbers(domain, min(steps), min(groups)))
            high += max(_numbers(domain, max(steps), max(groups)))
    return low, high


def _numbers(domain: Rates, steps: int, groups: int) -> list[int]:
    """How many numbers a vector takes, in each mode and form."""
    proposed = [dimensions(form, steps, groups) for form in domain.forms]
    return [n for mode in domain.modes for n in ([1] if mode == LEARNED else proposed)]


def _steps(domain: Any) -> tuple[int, ...]:
    """Fewest and most inner steps."""
    match domain:
        case Int(low, high):
            return low, high
        case Choice(options):
            return tuple(int(option or 0) for option in options)
        case Fixed(value):
            return (int(value),)
    return (1,)


def _groups(learner: LearnerDomains, domain: Rates, space: SearchSpace) -> list[int]:
    """Columns of a rate vector, by each way to group it, on the shallowest and deepest networks."""
    counts = []
    for choices in space.backbones.values():
        for pick in (min, max):
            wanted = {label: _end(options, pick) for label, options in choices.options.items()}
            active = {k: v for k, v in wanted.items() if choices.space.active(k, wanted)}
            built = choices.space.build(active, choices.in_shape)
            names = learner.learner.fast_parameters(built.parameter_names)
            counts += [len(group_names(names, group)) for group in domain.groups]
    return counts


def _end(options: tuple[Any, ...], pick: Callable[..., Any]) -> Any:
    """The least or most of numbers; of other options the last, which has the most parameters."""
    numbers = all(isinstance(option, int | float) for option in options)
    return pick(options) if numbers else options[-1]
