"""The configs of both streams."""

from typing import Annotated, Literal

from pydantic import Field

from datarax_core.config import LocalFile, Name, Real, Shuffling, SourceConfig


class AcmeTickerConfig(SourceConfig):
    """Config of an `AcmeTicker`."""

    type: Literal["acme_ticker"] = "acme_ticker"
    recording: LocalFile = Field(description="The file recording.json of a recording, which lists its files of ticks.")
    shuffle: Shuffling = Field(default=False, description="Read the files in another sequence in each epoch.")


class AcmeTickerLiveConfig(SourceConfig):
    """Config of an `AcmeTickerLive`."""

    type: Literal["acme_ticker_live"] = "acme_ticker_live"
    host: Name = Field(default="localhost", description="The machine that sends the ticks.")
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)] = Field(description="Its port.")
    symbols: tuple[Name, ...] = Field(min_length=1, description="The symbols; a tick has the place of its own in here.")
    timeout: Annotated[Real, Field(gt=0)] | None = Field(
        default=30.0, description="Seconds without a tick after which reading fails; null waits for ever."
    )
