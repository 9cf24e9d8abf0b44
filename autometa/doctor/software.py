"""Python, the packages that a search needs, and what torch can compute on."""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import requires, version

import pynvml
from packaging.requirements import Requirement

from autometa.doctor.finding import Finding, ok, problem, size, warning

OLDEST = (3, 11)
PACKAGES = {
    "torch": "torch",
    "ray": "ray.tune",
    "optuna": "optuna",
    "nni": "autometa.backbones.nni_space",
}
"""Package → the module that fails to import where it can't be used."""
SCARCE = 0.1
"""Of a GPU's memory: with less than that free, others are at work there."""


def python() -> Finding:
    found = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < OLDEST:
        return problem("Python", found, "install Python 3.11 or newer and autometa with it")
    return ok("Python", found)


def packages() -> Iterator[Finding]:
    """Whether each can be imported, and has a version that we were built for."""
    wanted = {each.name: each for each in map(Requirement, requires("autometa") or [])}
    for name, module in PACKAGES.items():
        yield package(wanted[name], module)


def package(wanted: Requirement, module: str) -> Finding:
    """One package: ``module`` is imported."""
    name = wanted.name
    mend = f"pip install --upgrade '{wanted}'"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(module)
        found = version(name)
    except Exception as error:  # a broken package may raise anything
        reason = f"can't be imported: {type(error).__name__}: {error}".splitlines()[0]
        return problem(name, reason, mend)
    if not wanted.specifier.contains(found, prereleases=True):
        return problem(name, f"{found}, but must be {wanted.specifier}", mend)
    return ok(name, found)


def cuda() -> Iterator[Finding]:
    """The GPUs that torch can use; one finding each, or one that there is none."""
    import torch

    with warnings.catch_warnings():  # what they say of old drivers is said here
        warnings.simplefilter("ignore")
        usable = torch.cuda.is_available()
    if not usable:
        yield no_cuda(driver(), torch.version.cuda, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return
    for index in range(torch.cuda.device_count()):
        yield device(index)


def driver() -> str | None:
    """Version of the NVIDIA driver; None where there is none."""
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def no_cuda(driver: str | None, built_for: str | None, visible: str | None) -> Finding:
    """Why torch sees no GPU.

    Args:
        driver: Version of NVIDIA's.
        built_for: The CUDA version of torch; None for a CPU build.
        visible: ``CUDA_VISIBLE_DEVICES``.
    """
    if driver is None:
        return ok("GPU", "none: trials run on CPUs")
    if visible is not None:
        found = f"driver {driver}, but CUDA_VISIBLE_DEVICES is {visible!r}"
        return warning("GPU", found, "unset CUDA_VISIBLE_DEVICES to train on GPUs")
    if built_for is None:
        found = f"driver {driver}, but this torch is built for CPUs"
        return warning("GPU", found, "install torch with CUDA: https://pytorch.org/get-started")
    return problem(
        "GPU",
        f"driver {driver}, which torch for CUDA {built_for} can't use",
        "update the driver, or install a torch for an older CUDA: "
        "https://pytorch.org/get-started/previous-versions",
    )


def device(index: int) -> Finding:
    """A GPU: it has to compute something."""
    import torch

    name = f"GPU {index}"
    model = torch.cuda.get_device_name(index)
    try:
        torch.ones(8, device=f"cuda:{index}").square().sum().item()
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        return problem(
            name,
            f"{model} can't compute: {reason}",
            "see in nvidia-smi whether it is in use or broken; "
            f"CUDA_VISIBLE_DEVICES can leave it out (torch is for CUDA {torch.version.cuda})",
        )
    found = f"{model}, {size(free)} of {size(total)} free, driver {driver()}"
    if free < SCARCE * total:
        return warning(name, found, "end what else uses it (nvidia-smi lists the processes)")
    return ok(name, found)
