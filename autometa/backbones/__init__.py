"""Backbones: NNI model spaces (one file each), their samples as JSON, frozen torch modules."""

from autometa.registry import Registry

BACKBONES = Registry(
    "backbone",
    "autometa.backbones",
    {
        "cell": "autometa.backbones.cell:CellBackbones",
        "conv": "autometa.backbones.conv:ConvBackbones",
        "conv1d": "autometa.backbones.conv1d:Conv1dBackbones",
        "conv4": "autometa.backbones.conv4:Conv4Backbone",
        "mlp": "autometa.backbones.mlp:MLPBackbones",
        "resnet": "autometa.backbones.resnet:ResNetBackbones",
    },
)

__all__ = ["BACKBONES"]
