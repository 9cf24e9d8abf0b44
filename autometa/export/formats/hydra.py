"""Hydra: the winner's configuration as config groups, without its weights.

``conf/config.yaml`` has the defaults list, ``conf/learner/``, ``conf/backbone/`` and ``conf/data/``
hold one option each; options of your own go beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from autometa.export.bundle import describe
from autometa.export.configuration import render
from autometa.export.formats.base import Format, Winner
from autometa.export.target import put

README = """# {name}: a configuration for Hydra

The winner of a search by autometa. There are no weights in it.

```python
from pathlib import Path

from hydra import compose, initialize_config_dir

with initialize_config_dir(str(Path("conf").absolute()), version_base="1.3"):
    config = compose("config", overrides=["training.seed=3"])
print(config.learner.hyper, config.backbone.architecture)
```

`config.learner` has `name` and `hyper`; `config.backbone` has `name`, `architecture`, `parameters`
and `macs`. Labels of an architecture that have a slash can't be overridden on a command line: put a
file of your own into `conf/backbone/`, and name it in `config.yaml` or as `backbone=NAME`.
"""


class HydraFormat(Format):
    """Config groups that ``hydra.compose`` puts together."""

    summary: ClassVar[str] = "its configuration as Hydra config groups, without weights"
    needs: ClassVar[tuple[str, ...]] = ("hydra-core>=1.3",)

    def write(self, winner: Winner, into: Path) -> None:
        described = describe(winner.config, winner.entry)
        put(into, {f"conf/{path}": yaml for path, yaml in config_groups(described).items()})
        put(into, {"README.md": README.format(name=described["name"])})


def config_groups(described: dict[str, Any]) -> dict[str, str]:
    """Path below ``conf`` → YAML."""
    rest = _without_interpolations(described)
    learner = {"name": rest.pop("learner"), "hyper": rest.pop("hyper")}
    names = ("architecture", "parameters", "macs", "latency_ms")
    backbone = {"name": rest.pop("backbone")} | {n: rest.pop(n) for n in names if n in rest}
    options = {"learner": learner, "backbone": backbone, "data": rest.pop("data")}
    defaults = [{group: option["name"]} for group, option in options.items()]
    files = {f"{group}/{option['name']}.yaml": option for group, option in options.items()}
    files["config.yaml"] = {"defaults": [*defaults, "_self_"]} | rest
    return {path: render(values, "yaml") for path, values in files.items()}


def _without_interpolations(value: Any) -> Any:
    """The same values to OmegaConf, for which ``${`` in a text begins a reference."""
    if isinstance(value, dict):
        return {key: _without_interpolations(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_without_interpolations(below) for below in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value
