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
        "imaml": "autometa.learners.imaml:IMAML",
        "imp": "autometa.learners.imp:IMP",
        "leo": "autometa.learners.leo:LEO",
        "maml": "autometa.learners.maml:MAML",
        "mamlpp": "autometa.learners.mamlpp:MAMLPP",
        "mann": "autometa.learners.mann:MANN",
        "matching": "autometa.learners.matching:Matching",
        "meta_lstm": "autometa.learners.meta_lstm:MetaLSTM",
        "metaoptnet": "autometa.learners.metaoptnet:MetaOptNet",
        "metasgd": "autometa.learners.metasgd:MetaSGD",
        "nearest": "autometa.learners.nearest:Nearest",
        "platipus": "autometa.learners.platipus:Platipus",
        "protomaml": "autometa.learners.protomaml:ProtoMAML",
        "protonet": "autometa.learners.protonet:ProtoNet",
        "r2d2": "autometa.learners.r2d2:R2D2",
        "relation": "autometa.learners.relation:Relation",
        "reptile": "autometa.learners.reptile:Reptile",
        "scratch": "autometa.learners.scratch:Scratch",
        "siamese": "autometa.learners.siamese:Siamese",
        "snail": "autometa.learners.snail:SNAIL",
        "versa": "autometa.learners.versa:VERSA",
    },
)

__all__ = ["LEARNERS"]
