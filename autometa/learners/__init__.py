"""The meta-learners, one file each; see ``base.py`` for the contract."""

from autometa.registry import Registry

LEARNERS = Registry(
    "learner",
    "autometa.learners",
    {
        "alfa": "autometa.learners.alfa:ALFA",
        "anil": "autometa.learners.anil:ANIL",
        "bmaml": "autometa.learners.bmaml:BMAML",
        "cnp": "autometa.learners.cnp:CNP",
        "finetune": "autometa.learners.finetune:Finetune",
        "fomaml": "autometa.learners.fomaml:FOMAML",
        "leo": "autometa.learners.leo:LEO",
        "maml": "autometa.learners.maml:MAML",
        "mamlpp": "autometa.learners.mamlpp:MAMLPP",
        "matching": "autometa.learners.matching:Matching",
        "meta_lstm": "autometa.learners.meta_lstm:MetaLSTM",
        "nearest": "autometa.learners.nearest:Nearest",
        "protonet": "autometa.learners.protonet:ProtoNet",
        "relation": "autometa.learners.relation:Relation",
        "scratch": "autometa.learners.scratch:Scratch",
        "snail": "autometa.learners.snail:SNAIL",
        "versa": "autometa.learners.versa:VERSA",
    },
)

__all__ = ["LEARNERS"]
