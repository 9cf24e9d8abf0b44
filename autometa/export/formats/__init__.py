"""The formats that a winner is exported in, one file each; see ``base.py`` for the contract."""

from autometa.registry import Registry

FORMATS = Registry(
    "format",
    "autometa.formats",
    {
        "easyfsl": "autometa.export.formats.easyfsl:EasyFsl",
        "learn2learn": "autometa.export.formats.learn2learn:Learn2Learn",
        "lightning": "autometa.export.formats.lightning:Lightning",
        "torchmeta": "autometa.export.formats.torchmeta:TorchMeta",
    },
)

__all__ = ["FORMATS"]
