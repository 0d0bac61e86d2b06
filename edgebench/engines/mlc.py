"""MLC-LLM: ``mlc_llm serve``, or on Android the MLCChat app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebench.core import Device, DeviceSession, Engine, Option
from edgebench.engines import mlc_app
from edgebench.engines.mlc_app import MlcApp
from edgebench.engines.mlc_install import BACKENDS, FORMATS, MlcConfig
from edgebench.engines.mlc_options import MlcOptions
from edgebench.engines.mlc_python import MlcPython


class MlcLlm(Engine):
    """Creates the variant for the device's system."""

    Config = MlcConfig
    formats = FORMATS
    backends = BACKENDS
    Options = MlcOptions
    k_per_request = False
    drafts_without_model = ()
    ends_drafts = False

    @staticmethod
    def check(device: Device, scenario: str, backend: str, options: Mapping[str, Option]) -> None:
        """See ``core.PreflightCheck``."""
        if device.system == "android":
            mlc_app.check(scenario, backend)

    def __new__(cls, device: DeviceSession, config: MlcConfig) -> Any:
        return (MlcApp if device.device.system == "android" else MlcPython)(device, config)
