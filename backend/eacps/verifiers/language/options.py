"""The options of judges that read language, in EACPS_PLUGIN_OPTIONS."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Way = Literal["auto", "pointwise", "logprobs"]


class LocalOptions(BaseModel):
    """What the options of a model on this machine may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rubric: str = Field("", description="instead of EACPS_RUBRIC, for this judge")
    image_side: int = Field(768, ge=28, le=4096, description="longer side of the pictures shown")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: float32 on CPUs, bfloat16 on GPUs"
    )
    lora: str = Field("", description="a folder with a LoRA of PEFT for this model")
    max_tokens: int = Field(
        1024, ge=16, le=16_384, description="most tokens of an answer that is written out"
    )
    device: str = Field("", description="a device of its own, such as cuda:1")


class ServerOptions(BaseModel):
    """What the options of a server's model may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rubric: str = Field("", description="instead of EACPS_RUBRIC, for this judge")
    way: Way = Field(
        "auto",
        description="pointwise: the score that is said; logprobs: the expected score by the "
        "probabilities of its tokens; auto: logprobs where they are given",
    )
    image_side: int = Field(1024, ge=64, le=4096, description="longer side of the pictures sent")
    max_tokens: int = Field(2048, ge=16, le=65_536, description="most tokens of an answer")

    base_url: str = Field("", description="the server's address")
    api_key: SecretStr = Field(SecretStr(""), description="the key; write $NAME")
    api_key_file: str = Field("", description="a file with the key")
    passes: int = Field(1, ge=1, le=16, description="how often each question is asked")
    temperature: float | None = Field(0.0, ge=0, le=2, description="null: the server's default")
    timeout_seconds: float = Field(120, gt=0, le=3600, description="for one answer")
    attempts: int = Field(3, ge=1, le=10, description="how often a failing request is sent")
    wait_seconds: float = Field(
        60, ge=0, le=3600, description="longest wait before another attempt"
    )
    concurrency: int = Field(16, ge=1, le=256, description="requests at once, per worker")
    price_read: float = Field(0, ge=0, description="price of a million tokens that are sent")
    price_written: float = Field(0, ge=0, description="price of a million tokens that are answered")
