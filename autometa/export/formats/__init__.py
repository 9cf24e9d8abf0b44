"""The formats that a winner is exported in, one file each; see ``base.py`` for the contract."""

from autometa.registry import Registry

FORMATS = Registry(
    "format",
    "autometa.formats",
    {
        "bundle": "autometa.export.formats.bundle:BundleFormat",
        "config": "autometa.export.formats.config:ConfigFormat",
        "easyfsl": "autometa.export.formats.easyfsl:EasyFsl",
        "hf": "autometa.export.formats.hf:HfFormat",
        "hydra": "autometa.export.formats.hydra:HydraFormat",
        "learn2learn": "autometa.export.formats.learn2learn:Learn2Learn",
        "lightning": "autometa.export.formats.lightning:Lightning",
        "onnx": "autometa.export.formats.onnx:OnnxFormat",
        "torch-export": "autometa.export.formats.torch_export:TorchExportFormat",
        "torchmeta": "autometa.export.formats.torchmeta:TorchMeta",
    },
)

__all__ = ["FORMATS"]
