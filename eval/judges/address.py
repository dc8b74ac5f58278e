"""Where an endpoint is, and the key to it."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from eval.judges.options import JudgeConfig
from features.errors import ConfigError

OPENAI = "https://api.openai.com/v1"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
NO_KEY = "no-key-needed"


def endpoint_key(config: JudgeConfig) -> str:
    """The key, or a stand-in for servers on this machine.

    Raises:
        ConfigError: it is missing, or cannot be one.
    """
    key = os.environ.get(config.key_variable, "").strip()
    where = f"environment variable {config.key_variable}"
    if not key and endpoint_host(config) not in LOOPBACK:
        raise ConfigError("an endpoint needs a key", where=where, do="set it to your key")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("not a key: it has characters that no header may have", where=where)
    return key or NO_KEY


def endpoint_host(config: JudgeConfig) -> str:
    """Name of the machine that is asked."""
    return urlsplit(config.base_url or OPENAI).hostname or ""


def endpoint_name(config: JudgeConfig) -> str:
    """Host, port and path: one gateway may serve several models under one name."""
    parts = urlsplit(config.base_url or OPENAI)
    return parts.netloc.rpartition("@")[2] + parts.path.rstrip("/")
