"""The meta-learners, one file each; see ``base.py`` for the contract."""

from autometa.registry import Registry

LEARNERS = Registry(
    "learner",
    "autometa.learners",
    {
        "finetune": "autometa.learners.finetune:Finetune",
        "maml": "autometa.learners.maml:MAML",
        "nearest": "autometa.learners.nearest:Nearest",
        "scratch": "autometa.learners.scratch:Scratch",
        "protonet": "autometa.learners.protonet:ProtoNet",
    },
)

__all__ = ["LEARNERS"]
