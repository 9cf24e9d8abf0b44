"""Whether the members that a program registered can leave as a bundle, before a search is run."""

from __future__ import annotations

from autometa.config import StudyConfig
from autometa.export.network import source_of
from autometa.export.vendor import learner_sources
from autometa.search.members import registered
from autometa.search.space import BackboneChoices, RandomSuggest, load_backbone


def brings_own(config: StudyConfig) -> bool:
    """Whether a study has a learner or a backbone that its program registered."""
    return any(kind != "tasks" for kind, _ in registered(config))


def check_own(config: StudyConfig, in_shape: tuple[int, ...]) -> None:
    """Refuse a member that no bundle could carry.

    Args:
        in_shape: Shape of an input of the study's data.

    Raises:
        UserError: What is wrong with it.
    """
    for (kind, name), member in registered(config).items():
        if kind == "learner":
            learner_sources(member)
        elif kind == "backbone":
            space = load_backbone(name, in_shape)
            choices = BackboneChoices(space, in_shape, space.choices(in_shape))
            _, backbone = choices.sample(RandomSuggest(0), name)
            source_of(backbone.module)
