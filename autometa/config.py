"""StudyConfig: everything a study is told, typed and validated; YAML in, YAML out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from autometa.errors import ConfigError, suggestion

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(value: Any) -> Any:
    """``"2h"``, ``"1h30m"`` or a number of seconds → seconds."""
    if not isinstance(value, str):
        return value
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", value)
    if not parts or re.sub(r"\d+(?:\.\d+)?\s*[smhd]|\s", "", value):
        raise ValueError("must be a duration such as 90s, 30m, 2h or 1h30m")
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Tasks = Annotated[int, Field(ge=2)]  # an interval over tasks needs two
Overrides = dict[str, Any]


class Part(BaseModel):
    """A part of the configuration: immutable, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Part):
    name: str = Field("glyphs", description="data set: see `autometa data list`")
    options: Overrides = Field({}, description="the data set's own options")


class TaskConfig(Part):
    ways: Count = Field(5, description="classes of a task (regression: outputs, 1)")
    shots: Count = Field(1, description="support examples of a class")
    queries: Count = Field(15, description="query examples of a class")
    within_groups: bool = Field(
        False, description="validate and test on tasks within one group (alphabet, script)"
    )
    train_within_groups: bool = Field(False, description="the same for meta-training tasks")


class LimitsConfig(Part):
    max_parameters: Count | None = Field(None, description="most parameters of a backbone")
    max_macs: Count | None = Field(None, description="most multiply–accumulates of one input")
    max_latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="longest forward pass of one input here: proposals depend on the machine"
    )


class SpaceConfig(Part):
    learners: dict[str, Overrides] = Field(
        {"maml": {}, "protonet": {}}, min_length=1, description="learner → its domains, overridden"
    )
    backbones: dict[str, Overrides] = Field(
        {"conv": {}}, min_length=1, description="backbone space → label → options, restricted"
    )
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="before")
    @classmethod
    def _lists_as_mappings(cls, data: Any) -> Any:
        """``learners: [maml, protonet]`` and ``maml:`` with nothing below are both fine."""
        if not isinstance(data, dict):
            return data
        return data | {
            key: _as_mapping(data[key]) for key in ("learners", "backbones") if key in data
        }


def _as_mapping(members: Any) -> Any:
    if isinstance(members, list):
        return {str(name): {} for name in members}
    if isinstance(members, dict):
        return {name: {} if body is None else body for name, body in members.items()}
    return members


class BudgetConfig(Part):
    trials: Count = Field(50, description="trials of the search, those cut early included")
    time: Duration | None = Field(None, description="longest search, without finalists: 30m, 2h")
    iterations: Count = Field(1000, description="meta-iterations of a full trial")
    trial_time: Duration | None = Field(
        None, description="training time of a full trial, whose shares `iterations` then count"
    )


class ValidationConfig(Part):
    every: Count = Field(50, description="meta-iterations between two scorings of a trial")
    tasks: Tasks = Field(100, description="meta-validation tasks of a scoring")
    max_tasks: Tasks | None = Field(
        None, description="tasks of one so close that fewer can't decide; default: no more"
    )


ONE_OBJECTIVE = ("cmaes", "evolution")


class SamplerConfig(Part):
    name: str = Field(
        "tpe",
        description="tpe, grouped_tpe, gp, cmaes, nsga2, nsga3, evolution, qmc, random, grid, or "
        "one of another package",
    )
    startup_trials: Count = Field(10, description="random trials before the model proposes")
    parts: dict[str, str] = Field(
        {}, description="pattern of parameters' names → their own sampler; the first that fits"
    )

    @model_validator(mode="after")
    def _composes(self) -> SamplerConfig:
        names = [*self.parts.values(), self.name]
        if self.parts and "grid" in names:
            raise ValueError("sampler: grid enumerates a whole space, so it can be no part")
        if names.count("cmaes") > 1:
            raise ValueError("sampler: cmaes keeps one state in a study, so it can be one part")
        return self


class SchedulerConfig(Part):
    name: Literal["asha", "hyperband", "median", "pbt", "none"] = "asha"
    grace: Count = Field(
        100, description="meta-iterations before a trial may be cut; pbt: between comparisons"
    )
    reduction_factor: Annotated[float, Field(gt=1)] = Field(
        3.0, description="one of this many trials passes each rung"
    )
    share: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.25, description="pbt: share of trials that are cut, and of those that have heirs"
    )


class FinalistsConfig(Part):
    count: Count = Field(3, description="configurations retrained to the full budget")
    seeds: Count = Field(2, description="times each is retrained")
    tasks: Tasks = Field(300, description="fresh meta-validation tasks that rescore each")
    max_tasks: Tasks | None = Field(
        None, description="most tasks of those that can't be told apart; default: 4 × tasks"
    )

    @property
    def most_tasks(self) -> int:
        return 4 * self.tasks if self.max_tasks is None else self.max_tasks


Objective = Literal["accuracy", "mse", "parameters", "macs", "adaptation", "memory", "ece"]


class TestConfig(Part):
    __test__ = False

    tasks: Tasks = Field(600, description="meta-test tasks of the winner")


class BaselineConfig(Part):
    learner: str = Field("protonet", description="learner with its published defaults")
    backbone: str = Field("conv", description="backbone space with its published default")
    hyper: Overrides = Field({}, description="hyper-parameters other than the published ones")


class SupernetConfig(Part):
    """Networks that share weights are ranked before the search, whose first trials are the best."""

    learner: str = Field("protonet", description="learner that trains it, as published")
    hyper: Overrides = Field({}, description="hyper-parameters other than the published ones")
    backbone: str | None = Field(None, description="backbone space; default: the study's only one")
    iterations: Count = Field(2000, description="meta-iterations, each of one random network")
    candidates: Count = Field(1000, description="networks to rank: half random, half mutated")
    tasks: Tasks = Field(50, description="meta-validation tasks of a network's score")
    keep: Count = Field(5, description="best networks, which become the first trials")
    inherit: bool = Field(True, description="whether trials start from the shared weights")


class ResourcesConfig(Part):
    concurrency: Count = Field(2, description="trials at a time")
    cpus_per_trial: Annotated[float, Field(gt=0)] = 1.0
    gpus_per_trial: Annotated[float, Field(ge=0)] = Field(
        0.0, description="fractions share a GPU: 0.25 puts four trials on one"
    )


PathText = Annotated[Path, PlainSerializer(str)]


class StudyConfig(Part):
    """One study, whole. ``storage`` may hold a password: see :meth:`public`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")] = "study"
    seed: Annotated[int, Field(ge=0)] = 0
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


def load_config(
    space: str | Path, overrides: Iterable[str] = (), *, fields: Mapping[str, Any] | None = None
) -> StudyConfig:
    """The configuration in a YAML file (ours by name), with other values laid over it.

    Args:
        space: The file, or the name of one of ours.
        overrides: ``a.b=c``, where c is YAML.
        fields: ``a.b`` → value, laid over the overrides.

    Raises:
        ConfigError: The file is missing or no YAML mapping, or a field is wrong.
    """
    path = space_file(str(space))
    values = read_yaml(path)
    for assignment in overrides:
        assign(values, assignment)
    for field, value in (fields or {}).items():
        lay(values, field, value)
    return parse_config(values, origin=str(space))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"configuration file {str(path)!r} can't be read: {reason}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {_yaml_problem(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of fields, but holds {values!r}")
    return values


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = getattr(error, "problem", None) or "something is wrong"
    return f"{problem} in line {mark.line + 1}, column {mark.column + 1}"


def assign(values: dict[str, Any], assignment: str) -> None:
    """Lay one ``a.b.c=value`` over nested mappings; the value is read as YAML."""
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set {assignment!r} must look like FIELD=VALUE, as in seed=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {assignment!r}: {text!r} is no valid YAML value") from None
    lay(values, path.strip(), value)


def lay(values: dict[str, Any], path: str, value: Any) -> None:
    """Set the field at ``a.b.c`` in nested mappings."""
    *parents, last = path.split(".")
    for key in parents:
        below = values.get(key)
        if isinstance(below, list):
            below = _as_mapping(below)
        values[key] = below if isinstance(below, dict) else {}
        values = values[key]
    values[last] = value


def space_file(name: str) -> Path:
    """A YAML file by path, or by the name of a search space that we ship.

    Raises:
        ConfigError: It is neither; the message names the nearest of ours.
    """
    path = Path(name)
    if path.is_file() or path.suffix in {".yaml", ".yml"}:
        packaged = shipped_spaces().get(path.stem) if not path.exists() else None
        return packaged if packaged and path.parent == Path("search_spaces") else path
    spaces = shipped_spaces()
    if name not in spaces:
        raise ConfigError(
            f"search space {name!r} is neither a file nor one of ours: {suggestion(name, spaces)}"
        )
    return spaces[name]


def shipped_spaces() -> dict[str, Path]:
    """The search spaces in the wheel (in a source checkout: beside the package)."""
    here = Path(__file__).parent
    for folder in (here / "search_spaces", here.parent / "search_spaces"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


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
    rule = RULES.get(first["type"], message[0].lower() + message[1:])
    rule = rule.replace("input should", "it should").replace("string should", "it should")
    return f"field {field!r} is {first['input']!r}, but {rule}"


def _fields_at(parents: list[str]) -> list[str]:
    """Names of the fields of the part that the path leads to."""
    model: type[BaseModel] = StudyConfig
    for name in parents:
        below = model.model_fields[name].annotation if name in model.model_fields else None
        candidates = [below, *getattr(below, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
