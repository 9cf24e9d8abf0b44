"""The parts of a study's configuration, each typed and validated."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    model_validator,
)

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
    def _listsas_mappings(cls, data: Any) -> Any:
        """``learners: [maml, protonet]`` and ``maml:`` with nothing below are both fine."""
        if not isinstance(data, dict):
            return data
        return data | {
            key: as_mapping(data[key]) for key in ("learners", "backbones") if key in data
        }


def as_mapping(members: Any) -> Any:
    """``[maml, protonet]`` as ``{maml: {}, protonet: {}}``; nothing below a name as ``{}``."""
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
    name: Literal["asha", "hyperband", "median", "pbt", "none"] = Field(
        "asha", description="what cuts trials early; none: nothing"
    )
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


AUTO = "auto"


def parse_share(value: Any) -> float | str:
    """A number of GPUs, or ``auto``."""
    try:
        share = value if value == AUTO else float(value)
        if share == AUTO or 0 <= share < math.inf:
            return share
    except (TypeError, ValueError):
        pass
    raise ValueError(f"must be a number from 0 on, or {AUTO}")


GpuShare = Annotated[float | str, PlainValidator(parse_share)]


class ResourcesConfig(Part):
    concurrency: Count = Field(2, description="trials at a time")
    cpus_per_trial: Annotated[float, Field(gt=0)] = Field(
        1.0, description="CPUs, and so threads, of a trial"
    )
    gpus_per_trial: GpuShare = Field(
        0.0, description="fractions share a GPU: 0.25 puts four trials on one; auto: as measured"
    )
    cohort: Count = Field(
        1, description="trials that are one program where that pays: they differ in numbers only"
    )

    strategy: Literal["auto", "measured", "loop", "threads", "vmap", "streams"] = Field(
        "auto",
        description="how a batch of tasks runs; measured: each trial tries all when it begins",
    )
    precision: Literal["float32", "tf32"] = Field(
        "float32", description="how exactly a GPU multiplies; tf32 is faster and rounds to 10 bits"
    )

    @property
    def gpus(self) -> float:
        """GPUs of a trial; none as long as that is to be measured."""
        return 0.0 if self.gpus_per_trial == AUTO else float(self.gpus_per_trial)


PathText = Annotated[Path, PlainSerializer(str)]
