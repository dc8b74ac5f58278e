"""Chinese as words and in one script, for judges that compare so. Extra `zh`.

Which words there are is the library's and its dictionary's own matter, so its version belongs to
the name of whatever is computed from them.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from eval.overlap import CHINESE, normalise
from features.errors import ConfigError

_BREAKS = re.compile(rf"(?<=[{CHINESE}])[^\w\s]+|[^\w\s]+(?=[{CHINESE}])")
"""Punctuation beside Chinese: no word goes across it. 3.5 and dog's stay whole."""


def words(text: str) -> list[str]:
    """Words of jieba's dictionary, clause by clause after normalisation.

    Without its guesses at words that it does not know: of 3只狗 they make 只狗, which is no 狗.
    """
    clauses = map(normalise, _BREAKS.split(unicodedata.normalize("NFKC", text)))
    cut = [word for clause in clauses for word in _tokenizer().cut(clause, HMM=False)]
    return [word for word in cut if not word.isspace()]


@cache
def converter(table: str) -> Callable[[str], str]:
    """One script as the other, by OpenCC's own table: `t2s` gives simplified characters.

    Raises:
        ConfigError: OpenCC is not installed.
    """
    try:
        import opencc
    except ImportError as error:
        do = "pip install -e '.[translate]'"
        raise ConfigError("checks of Chinese need opencc, which is not installed", do=do) from error
    convert: Callable[[str], str] = opencc.OpenCC(table).convert
    return convert


def package_name(package: str) -> str:
    """`jieba-0.42.1`.

    Raises:
        ConfigError: not installed.
    """
    try:
        return f"{package}-{version(package)}"
    except PackageNotFoundError as error:
        do = "pip install -e '.[zh]'"
        raise ConfigError("this judge needs another package", got=package, do=do) from error


@cache
def _tokenizer() -> Any:
    """jieba with its own dictionary, which is read here.

    By itself jieba would keep what it read as a file of a known name in the machine's folder of
    temporary files, where anybody can put another one, and tell stderr about it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its code is older than today's Python
        import jieba

        tokenizer = jieba.Tokenizer()
        tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer
