"""Ticks of an exchange as streams: recorded ones from gzip files, and live ones from a socket."""

from ._config import AcmeTickerConfig, AcmeTickerLiveConfig
from ._live import AcmeTickerLive
from ._recorded import AcmeTicker

__all__ = ["AcmeTicker", "AcmeTickerConfig", "AcmeTickerLive", "AcmeTickerLiveConfig"]
