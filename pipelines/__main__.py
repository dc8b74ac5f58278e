"""The command line: `python -m pipelines <stage> --config recipe.yaml --key value`.

A user's mistake is one line on stderr and exit code 2; `--debug` shows the traceback. Only the
stage that was asked for is imported, because half of them need no deep-learning library.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import sys
import typing
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.stages import Stage

STAGES = {
    "demo": "videos to judged report on the embedded base",
    "data": "what is there of a dataset (or of all) and what is not",
    "extract": "stage 1: sampled frames through the frozen ViT, pooled, into a store",
    "train": "stage 2: train the projectors on cached features",
    "eval": "stage 3: answer a split's questions and judge the answers",
    "reeval": "checkpoints x benchmarks x judges: what is missing, and a leaderboard",
    "report": "stage 4: a report of evaluated runs: page, JSON, Markdown, CSV",
    "experiments": "the paper's tables: every cell trained and scored, claims with verdicts",
    "plan": "hours, bytes, judge tokens and money of all stages, before they are run",
    "export": "a trained run as a folder that can be shared: export RUN TARGET",
    "import-projector": "Video-ChatGPT's mm_projector: import-projector FILE TARGET --base BASE",
    "judge": "answers that are there, judged (again): judge FOLDER --judge NAME; the Batch API",
    "predictions": "answers exchanged and translated: export, import, judged, translated",
    "translate": "annotations or predictions, en-zh or zh-en: translate FILE --target OUT",
    "review": "translations: check, export, import, rate, finish, serve (a page to review them)",
    "store": "feature stores: verify, info, convert, merge, import, export, gc",
    "inspect": "what a base is, and whether its files are whole: inspect BASE",
    "mini": "train the embedded base from scratch",
    "rehearse": "a published base at full size with made-up weights: one step, one answer",
    "gpu-check": "parity and speed of a base on this machine's accelerator",
}
MODULES = {"judge": "pipelines.judge_commands", "translate": "pipelines.translate_commands"}
"""Where a stage is, if not in stages.py."""
VERBS = {
    "store": "pipelines.store_commands",
    "predictions": "pipelines.judge_commands",
    "review": "pipelines.review_commands",
}
"""Stages that consist of verbs, and where those are."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print("usage: python -m pipelines <stage> [--config recipe.yaml] [--key value ...]\n")
        print("\n".join(f"  {name:16} {text}" for name, text in STAGES.items()))
        print("\n`python -m pipelines <stage> --help` lists its options.")
        return 0
    _quieten()
    from features.errors import ConfigError, RedVillmError
    from features.recipes import did_you_mean

    debug = "--debug" in args
    try:
        if args[0] not in STAGES:
            raise ConfigError("no such stage", got=args[0], do=did_you_mean(args[0], STAGES))
        rest = [arg for arg in args[1:] if arg != "--debug"]
        if args[0] == "inspect" and rest and not rest[0].startswith("-"):
            rest.insert(0, "--base")  # `inspect BASE`, as people type it
        return run_verb(args[0], rest) if args[0] in VERBS else run_stage(args[0], rest)
    except RedVillmError as error:
        if debug:
            raise
        print(f"{args[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"{args[0]}: {stop or 'interrupted; what was finished is kept'}", file=sys.stderr)
        return 130


def run_stage(name: str, args: list[str]) -> int:
    """Parse a stage's options into its dataclasses and call it.

    Raises:
        ConfigError: an unknown option or key, or a value of the wrong type.
    """
    module = importlib.import_module(MODULES.get(name, "pipelines.stages"))
    return _run(name, STAGES[name], module.STAGES[name], args)


def run_verb(stage: str, args: list[str]) -> int:
    """The same for `store <verb>`; without a verb all of them are listed."""
    from features.errors import ConfigError
    from features.recipes import did_you_mean

    verbs = importlib.import_module(VERBS[stage]).VERBS
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: python -m pipelines {stage} <verb> [...] [--key value ...]\n")
        print("\n".join(f"  {k:9} {verb.configs()[0].__doc__}" for k, verb in verbs.items()))
        print(f"\n`python -m pipelines {stage} <verb> --help` lists its options.")
        return 0
    if args[0] not in verbs:
        raise ConfigError("no such verb", got=args[0], do=did_you_mean(args[0], verbs))
    verb = verbs[args[0]]
    return _run(f"{stage} {args[0]}", str(verb.configs()[0].__doc__), verb, args[1:])


def _run(name: str, description: str, stage: Stage, args: list[str]) -> int:
    import jsonargparse

    from features.errors import ConfigError
    from pipelines.selection import Selection

    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    classes = stage.configs()
    parser = jsonargparse.ArgumentParser(
        prog=f"python -m pipelines {name}", description=description, exit_on_error=False
    )
    parser.add_argument("--config", action="config", help="YAML recipe; later options win")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    _add_positionals(parser, classes[0], stage.positionals)
    known: set[str] = {*stage.positionals, *stage.left_out}
    for cls in classes:  # stages share a few options, such as the folder of runs
        parser.add_class_arguments(cls, skip=known)
        known |= {field.name for field in dataclasses.fields(cls)}
    options = list(parser.get_defaults().keys())
    if Selection in classes and any(arg.startswith("--config") for arg in args):
        from pipelines.experiment import read_recipes

        args = read_recipes(args, known)
    flags = {f"--{f.name}" for cls in classes for f in dataclasses.fields(cls) if f.type == "bool"}
    try:
        namespace = parser.instantiate(parser.parse_args(_spell_out(args, flags)))
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise ConfigError(_explain(str(error), options), where=f"pipelines {name}") from error
    values: dict[str, Any] = dict(vars(namespace))
    names = [[f.name for f in dataclasses.fields(cls) if f.name in values] for cls in classes]
    pairs = zip(classes, names, strict=True)
    picked = [cls(**{name: values[name] for name in fields}) for cls, fields in pairs]
    return int(stage.run(*picked) or 0)


def _spell_out(args: Sequence[str], flags: set[str]) -> list[str]:
    """`--flag true` for a flag that stands alone, as people type it."""
    spelt = []
    for arg, following in zip(args, [*args[1:], ""], strict=False):
        alone = arg in flags and following.lower() not in ("true", "false", "yes", "no")
        spelt += [arg, "true"] if alone else [arg]
    return spelt


def _add_positionals(parser: Any, cls: type[Any], names: Sequence[str]) -> None:
    from docstring_parser import parse_from_object

    texts = {found.arg_name: found.description for found in parse_from_object(cls).params}
    kinds = typing.get_type_hints(cls)
    for name in names:
        several = typing.get_origin(kinds[name]) is list
        item = typing.get_args(kinds[name])[0] if several else kinds[name]
        parser.add_argument(name, type=item, nargs="+" if several else None, help=texts[name])


def _explain(message: str, known: Sequence[str]) -> str:
    """Jsonargparse's message on one line, with the nearest known option when one is unknown."""
    from features.recipes import did_you_mean

    text = " ".join(message.split())
    unknown = re.search(r"unrecognized arguments: --([\w.-]+)", text) or re.search(
        r"[Oo]ption '([\w.-]+)'", text
    )
    return f"{text}; {did_you_mean(unknown[1], known)}" if unknown else text


def _quieten() -> None:
    """No telemetry, and no library chatter between a user and their progress bar."""
    for variable, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }.items():
        os.environ.setdefault(variable, value)
    warnings.filterwarnings("ignore", category=FutureWarning)


if __name__ == "__main__":
    sys.exit(main())
