"""StudyConfig: everything a study is told, typed and validated; YAML in, YAML out."""

from autometa.config.files import assign, load_config, shipped_spaces
from autometa.config.parts import (
    BaselineConfig,
    LimitsConfig,
    ResourcesConfig,
    SamplerConfig,
    SchedulerConfig,
    SpaceConfig,
    SupernetConfig,
)
from autometa.config.study import StudyConfig, field_names, parse_config, without_password

__all__ = [
    "BaselineConfig",
    "LimitsConfig",
    "ResourcesConfig",
    "SamplerConfig",
    "SchedulerConfig",
    "SpaceConfig",
    "StudyConfig",
    "SupernetConfig",
    "assign",
    "field_names",
    "load_config",
    "parse_config",
    "shipped_spaces",
    "without_password",
]
