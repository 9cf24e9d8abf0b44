"""ONNX: the encoder of a learner that embeds inputs by one network, whatever the task."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from autometa.errors import BundleError
from autometa.export.bundle import record
from autometa.export.card import normalisation
from autometa.export.encoder import check_encoder, example, head_loss, network_of
from autometa.export.formats.base import Format, Winner
from autometa.export.target import put
from autometa.learners.base import REGRESSION
from autometa.learners.protonet import LOG_SCALE, ProtoNet

WRITERS = ("onnx", "onnxscript")
PREDICT = Path(__file__).parent / "onnx_predict.py.txt"
README = """# {name}: an encoder

`encoder.onnx` maps `inputs` [B, {shape}], float32{pixels}, to `embeddings` [B, {features}] for any
B. It is the encoder of {learner} ({paper}), found by autometa. `config.yaml` has the whole
configuration, `results.json` all figures.
{normalisation}
{usage}"""
WITH_HEAD = """
```python
from predict import adapt, predict  # onnxruntime and NumPy

logits = predict(adapt(support_x, support_y), query_x)
```
"""
ALONE = """
```python
import onnxruntime

session = onnxruntime.InferenceSession("encoder.onnx")
(embeddings,) = session.run(["embeddings"], {"inputs": x})
```

How the learner goes on from embeddings isn't here.
"""


class OnnxFormat(Format):
    """``encoder.onnx``; of prototypical networks also ``predict.py``, the rest of them in NumPy."""

    summary: ClassVar[str] = "the encoder of metric learners as ONNX; runs without torch"
    needs: ClassVar[tuple[str, ...]] = ("onnxruntime", "numpy")

    def check(self, winner: Winner) -> None:
        check_encoder(winner, "onnx")
        if not all(map(find_spec, WRITERS)):
            raise BundleError(
                "format 'onnx' is written with the packages onnx and onnxscript, which aren't both "
                "here: pip install 'autometa[onnx]'"
            )

    def losses(self, winner: Winner) -> list[str]:
        return [] if isinstance(winner.learner, ProtoNet) else [head_loss(winner)]

    def write(self, winner: Winner, into: Path) -> None:
        write_encoder(winner, into / "encoder.onnx")
        put(into, record(winner.config, winner.result, winner.entry))
        head = _head(winner)
        put(into, head | {"README.md": _readme(winner, WITH_HEAD if head else ALONE)})


def write_encoder(winner: Winner, path: Path) -> None:
    """The encoder with a free number of inputs, and nothing of the machine that it was made on."""
    program = exported(network_of(winner), example(winner)[0])
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the paths of files
    program.save(path)


def exported(network: nn.Module, x: Tensor) -> torch.onnx.ONNXProgram:
    """A network [B, …] → [B, features] as an ONNX program for any B.

    Raises:
        BundleError: Torch can't write it down as ONNX.
    """
    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                (x,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                input_names=["inputs"],
                output_names=["embeddings"],
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), "")
            raise BundleError(f"the encoder can't be written as ONNX: {reason.strip()}") from None
    assert program is not None
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch warns of itself, and of packages that it would support."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _head(winner: Winner) -> dict[str, str]:
    """``predict.py`` of the learners whose rest is a few lines."""
    if not isinstance(winner.learner, ProtoNet):
        return {}
    text = Template(PREDICT.read_text(encoding="utf-8")).substitute(
        _inputs(winner),
        scale=repr(float(winner.params[LOG_SCALE].exp())),
        distance=winner.learner.hyper.distance,
    )
    return {"predict.py": text}


def _readme(winner: Winner, usage: str) -> str:
    return README.format(
        **_inputs(winner),
        name=winner.entry["name"],
        features=winner.learner.encoder.features,
        learner=type(winner.learner).__name__,
        paper=winner.learner.paper,
        normalisation=_paragraph(normalisation(winner.learner)),
        usage=usage.strip() + "\n",
    )


def _inputs(winner: Winner) -> dict[str, Any]:
    pixels = "" if winner.learner.problem == REGRESSION else " in [0, 1]"
    return {"shape": ", ".join(map(str, winner.in_shape)), "pixels": pixels}


def _paragraph(text: str) -> str:
    return f"\n{text}\n" if text else ""
