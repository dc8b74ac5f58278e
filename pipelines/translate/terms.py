"""Terms that must be translated as a glossary says."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

_STARTS = re.compile(r"[A-Za-z0-9]+|\S")


class Terms:
    """A glossary that finds its terms in a text in time linear in the text."""

    def __init__(self, terms: Mapping[str, str]) -> None:
        self.words = frozenset(word.casefold() for term in terms for word in term.split())
        """Of all source terms."""
        self._by_start: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for source, target in sorted(terms.items(), key=lambda item: -len(item[0])):
            folded = source.casefold()
            if start := _STARTS.match(folded):
                self._by_start[start[0]].append((folded, target))

    def unused(self, source: str, target: str) -> Iterator[tuple[str, str]]:
        """Terms (source, target) that stand in the source but not in the target, longest first."""
        if not self._by_start:
            return
        folded, there, end = source.casefold(), target.casefold(), 0
        for found in _STARTS.finditer(folded):
            if found.start() < end:
                continue
            for term, wanted in self._by_start.get(found[0], ()):
                stop = found.start() + len(term)
                if folded.startswith(term, found.start()) and _ends(folded, stop):
                    end = stop
                    if wanted.casefold() not in there:
                        yield term, wanted
                    break


def _ends(text: str, at: int) -> bool:
    """Whether a word may end here: within Chinese anywhere."""
    around = text[at - 1 : at + 1]
    return len(around) < 2 or not (around.isascii() and around.isalnum())
