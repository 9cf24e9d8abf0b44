"""The formats that a winner is exported in, one file each; see ``base.py`` for the contract."""

from autometa.registry import Registry

FORMATS = Registry(
    "format",
    "autometa.formats",
    {
        "bundle": "autometa.export.formats.bundle:BundleFormat",
        "config": "autometa.export.formats.config:ConfigFormat",
        "hf": "autometa.export.formats.hf:HfFormat",
        "hydra": "autometa.export.formats.hydra:HydraFormat",
        "onnx": "autometa.export.formats.onnx:OnnxFormat",
        "torch-export": "autometa.export.formats.torch_export:TorchExportFormat",
    },
)

__all__ = ["FORMATS"]
