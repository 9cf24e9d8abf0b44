"""StudyConfig: everything a study is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from autometa.config.parts import (
    ONE_OBJECTIVE,
    BaselineConfig,
    BudgetConfig,
    DataConfig,
    FinalistsConfig,
    Objective,
    Part,
    PathText,
    ResourcesConfig,
    SamplerConfig,
    SchedulerConfig,
    SpaceConfig,
    SupernetConfig,
    TaskConfig,
    TestConfig,
    ValidationConfig,
)
from autometa.errors import ConfigError, suggestion


class StudyConfig(Part):
    """One study, whole. ``storage`` may hold a password: see :meth:`public`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")] = Field(
        "study", description="of the study, and of its folder in trials/"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of everything")
    data: DataConfig = DataConfig()
    task: TaskConfig = TaskConfig()
    space: SpaceConfig = SpaceConfig()
    objectives: list[Objective] = Field(
        [], description="accuracy (mse), then others to be low; default: the score alone"
    )
    budget: BudgetConfig = BudgetConfig()
    validation: ValidationConfig = ValidationConfig()
    supernet: SupernetConfig | None = None
    sampler: SamplerConfig = SamplerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    finalists: FinalistsConfig = FinalistsConfig()
    test: TestConfig = TestConfig()
    baseline: BaselineConfig | None = BaselineConfig()
    resources: ResourcesConfig = ResourcesConfig()
    warm_start: list[PathText] = Field(
        [], description="folders of earlier studies, on other tasks too, to learn from"
    )
    storage: str | None = Field(None, description="Optuna storage URL; default: SQLite in `out`")
    address: str | None = Field(None, description="Ray cluster; default: one of its own, here")
    out: PathText | None = Field(None, description="study folder; default: trials/NAME")

    @model_validator(mode="after")
    def _fits(self) -> StudyConfig:
        budget = self.budget.iterations
        if self.validation.every > budget:
            raise ValueError(
                f"validation.every is {self.validation.every}, but must be at most "
                f"budget.iterations ({budget})"
            )
        if self.scheduler.name != "none" and self.scheduler.grace > budget:
            raise ValueError(
                f"scheduler.grace is {self.scheduler.grace}, but must be at most "
                f"budget.iterations ({budget})"
            )
        self._check_objectives()
        if self.scheduler.name == "pbt":
            self._check_population()
        validation = self.validation
        if validation.max_tasks is not None and validation.max_tasks < validation.tasks:
            raise ValueError(
                f"validation.max_tasks is {validation.max_tasks}, but must be at least "
                f"validation.tasks ({validation.tasks})"
            )
        finalists = self.finalists
        if finalists.most_tasks < finalists.tasks:
            raise ValueError(
                f"finalists.max_tasks is {finalists.max_tasks}, but must be at least "
                f"finalists.tasks ({finalists.tasks})"
            )
        if self.resources.cohort > 1:
            self._check_cohort()
        if self.supernet:
            self._check_supernet(self.supernet)
        if self.warm_start and self.sampler.name == "grid":
            raise ValueError("sampler.name is 'grid', which tries every point: remove warm_start")
        if self.warm_start and self.several:
            raise ValueError("warm_start serves one objective: remove it, or the other objectives")
        return self

    def _check_objectives(self) -> None:
        names = self.objectives
        if names and names[0] not in ("accuracy", "mse"):
            raise ValueError(
                f"objectives begin with {names[0]!r}, but must begin with the score: accuracy, "
                "or mse for a regression"
            )
        if len(set(names)) < len(names) or {"accuracy", "mse"} <= set(names):
            raise ValueError(f"objectives are {names}, but each may stand there once")
        used = {"sampler.name": self.sampler.name}
        used |= {f"sampler.parts.{part}": name for part, name in self.sampler.parts.items()}
        for field, name in used.items():
            if self.several and name in ONE_OBJECTIVE:
                raise ValueError(
                    f"{field} is {name!r}, which serves one objective, but objectives are {names}: "
                    "choose tpe, grouped_tpe, gp, nsga2, nsga3, qmc, random or grid"
                )

    def _check_population(self) -> None:
        grace, every = self.scheduler.grace, self.validation.every
        if grace % every:
            raise ValueError(
                f"scheduler.grace is {grace}, but pbt compares trials at their scorings: it must "
                f"be a multiple of validation.every ({every})"
            )
        if self.budget.trial_time is not None:
            raise ValueError("scheduler.name is 'pbt', which needs budget.trial_time left out")
        if self.sampler.name == "grid":
            raise ValueError("sampler.name is 'grid', but heirs of pbt are no points of a grid")

    def _check_cohort(self) -> None:
        """Refuse what makes trials of one program go apart."""
        strategy = self.resources.strategy
        parting = {
            "scheduler.name": "pbt" if self.scheduler.name == "pbt" else None,
            "budget.trial_time": self.budget.trial_time,
            "validation.max_tasks": self.validation.max_tasks,
            "resources.strategy": None if strategy in ("auto", "vmap") else strategy,
        }
        for field, value in parting.items():
            if value is not None:
                raise ValueError(
                    f"resources.cohort is {self.resources.cohort}, but trials of one program "
                    f"can't have {field} {value!r}: choose another, or leave resources.cohort out"
                )

    def _check_supernet(self, supernet: SupernetConfig) -> None:
        limits = {"supernet.candidates": supernet.candidates, "budget.trials": self.budget.trials}
        for field, limit in limits.items():
            if supernet.keep > limit:
                raise ValueError(
                    f"supernet.keep is {supernet.keep}, but must be at most {field} ({limit})"
                )

    @property
    def several(self) -> tuple[str, ...]:
        """The objectives where there are several, the score first; else none."""
        return tuple(self.objectives) if len(self.objectives) > 1 else ()

    @property
    def folder(self) -> Path:
        return self.out or Path("trials") / self.name

    def public(self) -> dict[str, Any]:
        """Plain values, defaults included, without the password of a storage URL."""
        values: dict[str, Any] = self.model_dump(mode="json")
        if self.storage:
            values["storage"] = without_password(self.storage)
        return values

    def to_yaml(self) -> str:
        """:meth:`public` as YAML."""
        return yaml.safe_dump(self.public(), sort_keys=False, allow_unicode=True)


def without_password(url: str) -> str:
    """``postgresql://user:secret@host/db`` → ``postgresql://user:***@host/db``."""
    url = re.sub(r"([?&]password=)[^&]*", r"\1***", url)
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not (separator and at and ":" in credentials):
        return url
    return f"{scheme}://{credentials.partition(':')[0]}:***@{host}"


def parse_config(values: Mapping[str, Any], origin: str = "configuration") -> StudyConfig:
    """A validated configuration.

    Raises:
        ConfigError: Names the first field that is wrong, the value seen and what would be right.
    """
    try:
        return StudyConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_sentence(error)}") from None


RULES = {
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "too_short": "must name at least one",
}
"""Our words for what pydantic finds, by its type of error."""


def _sentence(error: ValidationError) -> str:
    """The first of pydantic's errors as: field, value, rule."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        *parents, name = (str(part) for part in first["loc"])
        return f"field {field!r} is unknown: {suggestion(name, _fields_at(parents))}"
    if not field:
        return message
    if first["type"] == "literal_error":
        names = re.findall(r"'([^']*)'", first["ctx"]["expected"])
        return f"field {field!r} is {first['input']!r}: {suggestion(str(first['input']), names)}"
    rule = RULES.get(first["type"], message[0].lower() + message[1:])
    rule = rule.replace("input should", "it should").replace("string should", "it should")
    return f"field {field!r} is {first['input']!r}, but {rule}"


def _fields_at(parents: list[str]) -> list[str]:
    """Names of the fields of the part that the path leads to."""
    model: type[BaseModel] = StudyConfig
    for name in parents:
        field = model.model_fields.get(name)
        below = _part(field.annotation) if field else None
        assert below is not None, "pydantic has found the part"
        model = below
    return list(model.model_fields)


def _part(annotation: Any) -> type[BaseModel] | None:
    """The part that a field holds, if it is one."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def field_names(model: type[BaseModel] = StudyConfig) -> list[str]:
    """``seed``, ``budget.trials``: every field that takes a value."""
    found = []
    for name, field in model.model_fields.items():
        part = _part(field.annotation)
        found += [f"{name}.{below}" for below in field_names(part)] if part else [name]
    return found
