"""MLC-LLM: ``mlc_llm serve``, or on Android the MLCChat app."""

from __future__ import annotations

from typing import Any

from edgebench.core import Opened
from edgebench.engines.mlc_app import MlcApp
from edgebench.engines.mlc_install import Settings
from edgebench.engines.mlc_python import MlcPython


class MlcLlm:
    """The one of the two that the device's system can have."""

    Config = Settings
    format = "mlc"
    k_per_request = False
    drafts_without_model = ()
    ends_drafts = False
    asks = ()

    def __new__(cls, device: Opened, config: Settings) -> Any:
        return (MlcApp if device.device.system == "android" else MlcPython)(device, config)
