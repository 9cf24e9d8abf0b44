"""The meta-learners, one file each; see ``base.py`` for the contract."""

from autometa.registry import Registry

LEARNERS = Registry(
    "learner",
    "autometa.learners",
    {
        "anil": "autometa.learners.anil:ANIL",
        "finetune": "autometa.learners.finetune:Finetune",
        "fomaml": "autometa.learners.fomaml:FOMAML",
        "maml": "autometa.learners.maml:MAML",
        "matching": "autometa.learners.matching:Matching",
        "nearest": "autometa.learners.nearest:Nearest",
        "protonet": "autometa.learners.protonet:ProtoNet",
        "relation": "autometa.learners.relation:Relation",
        "scratch": "autometa.learners.scratch:Scratch",
    },
)

__all__ = ["LEARNERS"]
