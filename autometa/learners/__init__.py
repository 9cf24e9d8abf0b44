"""The meta-learners, one file each; see ``base.py`` for the contract."""

from autometa.registry import Registry

LEARNERS = Registry(
    "learner",
    "autometa.learners",
    {
        "maml": "autometa.learners.maml:MAML",
        "protonet": "autometa.learners.protonet:ProtoNet",
    },
)

__all__ = ["LEARNERS"]
