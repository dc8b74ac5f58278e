"""What a judging model is told: one template an aspect, filled with one answer.

Templates are YAML files `<aspect>.yaml` with `system` and `user`. Placeholders are {question},
{answer} (the reference) and {pred}, for `consistency` {question2} and {pred2} as well, and {mark}:
digits made from all texts that are put in. An answer cannot contain a mark that depends on the
whole answer, so an answer between two marks cannot pretend to have ended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from eval.judges.base import JudgeItem
from features.config import Aspect
from features.errors import ConfigError
from features.recipes import did_you_mean
from features.spec import record_digest

RUBRICS = Path(__file__).with_name("rubrics")
PARTS = ("system", "user")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
"""A word in braces; the braces of JSON examples have quotes or blanks behind them."""


@dataclass(frozen=True)
class Template:
    """What is said about one aspect."""

    system: str
    user: str


@dataclass(frozen=True)
class Rubric:
    """The templates of all aspects."""

    templates: Mapping[Aspect, Template]

    @property
    def digest(self) -> str:
        """sha256 of all templates."""
        texts = {aspect: [t.system, t.user] for aspect, t in self.templates.items()}
        return record_digest(texts)

    def render(self, item: JudgeItem) -> tuple[str, str]:
        """The system's and the user's message for one answer.

        Filled in one pass: a placeholder inside an answer stays text.

        Raises:
            ConfigError: an item of `consistency` without its second question or answer.
        """
        texts = {name: getattr(item, name) for name in sorted(required_names(item.aspect))}
        if None in texts.values():
            raise ConfigError("an answer for consistency has two questions", got=item.sample_id)
        # Half a surrogate pair, which JSON can hold, cannot be sent.
        texts = {name: text.encode(errors="replace").decode() for name, text in texts.items()}
        mark = record_digest(texts)[:8]
        filling = {**texts, "mark": mark}
        template = self.templates[item.aspect]
        system, user = (
            _PLACEHOLDER.sub(lambda found: filling[found[1]], part)
            for part in (template.system, template.user)
        )
        return system, user


def load_rubric(language: Literal["en", "zh"], folder: Path | None = None) -> Rubric:
    """The project's templates; those of a folder take the place of the aspects that it has.

    Raises:
        ConfigError: a template is missing, malformed, or has a wrong or no placeholder.
    """
    files = {aspect: RUBRICS / language / f"{aspect}.yaml" for aspect in get_args(Aspect)}
    if folder is not None:
        files |= {_aspect_of(path): path for path in sorted(folder.glob("*.yaml"))}
        if not any(path.parent == folder for path in files.values()):
            wanted = ", ".join(f"{aspect}.yaml" for aspect in files)
            raise ConfigError("a folder without templates", where=folder, wanted=wanted)
    return Rubric({aspect: _read_template(path, aspect) for aspect, path in files.items()})


def required_names(aspect: Aspect) -> frozenset[str]:
    """Placeholders that the templates of an aspect must have, in either part."""
    pair = {"question2", "pred2"} if aspect == "consistency" else set()
    return frozenset({"question", "answer", "pred"} | pair)


def reply_schema(aspect: Aspect) -> dict[str, Any]:
    """JSON schema of a reply.

    The range of the score is checked by parse.py: strict schemas of some endpoints know no bounds.
    """
    properties: dict[str, Any] = {"score": {"type": "number"}}
    if aspect == "qa":
        properties = {"pred": {"type": "string", "enum": ["yes", "no"]}, **properties}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _aspect_of(path: Path) -> Aspect:
    for aspect in get_args(Aspect):
        if path.stem == aspect:
            found: Aspect = aspect
            return found
    do = did_you_mean(path.stem, get_args(Aspect))
    raise ConfigError("a template for an unknown aspect", where=path, got=path.stem, do=do)


def _read_template(path: Path, aspect: Aspect) -> Template:
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("cannot read a template", where=path, got=error) from error
    texts = record if isinstance(record, dict) else {}
    if set(texts) != set(PARTS) or not all(isinstance(text, str) for text in texts.values()):
        wanted = "two texts, `system` and `user`"
        raise ConfigError("not a template", where=path, got=list(texts), wanted=wanted)
    used = {name for part in PARTS for name in _PLACEHOLDER.findall(texts[part])}
    required = required_names(aspect)
    for name in sorted(used - required - {"mark"}):
        do = did_you_mean(name, {*required, "mark"})
        raise ConfigError("an unknown placeholder", where=path, got=f"{{{name}}}", do=do)
    if missing := sorted(required - used):
        got = ", ".join(f"{{{name}}}" for name in missing)
        raise ConfigError("a template lacks placeholders", where=path, wanted=got)
    return Template(texts["system"], texts["user"])
