"""What a rubric judge needs of whoever answers: an endpoint, a local model, or recorded replies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable


@dataclass(frozen=True)
class Request:
    """One question to a judging model."""

    key: str
    """sha256 of all that decides the reply; see rubric_judge.py."""
    system: str
    user: str
    schema: dict[str, Any] | None = None
    """JSON schema of the reply, for endpoints that take one."""


@dataclass(frozen=True)
class Reply:
    """What came back, unparsed."""

    outcome: Literal["ok", "api_failure", "refused"]
    text: str | None = None
    reason: str = ""
    model: str = ""
    """As the endpoint named itself."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


@runtime_checkable
class Asker(Protocol):
    """Gets replies; retries by itself."""

    def ask(
        self, requests: Sequence[Request], before: Callable[[str], str]
    ) -> Iterator[tuple[str, Reply]]:
        """(key, reply) of each request as it comes, in any order.

        Args:
            requests: with distinct keys.
            before: called with the key just before each attempt leaves; returns the attempt's id.
                When it raises, nothing more is sent; the replies to what is under way still come,
                and then what it raised.
        """
        ...
