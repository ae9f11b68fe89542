"""Full-text search over notes: SQLite's FTS5 in memory, ranked by BM25."""

import re
import sqlite3
from collections.abc import Iterable

from kernelevolve.core.note import Note

WORD = re.compile(r"[^\W_]+")
MOST_WORDS = 200
"""Of a query; beyond that, a compiler repeats itself."""
WEIGHTS = (0.0, 3.0, 8.0, 1.0)
"""Of the columns: ref (not searched), title, symptoms, text."""


class Index:
    """Finds notes by any text."""

    def __init__(self, notes: Iterable[Note]) -> None:
        self._table = sqlite3.connect(":memory:", check_same_thread=False)
        self._table.execute(
            "CREATE VIRTUAL TABLE notes USING fts5"
            "(ref UNINDEXED, title, symptoms, text, tokenize = 'porter unicode61')"
        )
        rows = [(n.ref, n.title, "\n".join(n.symptoms), n.text) for n in notes]
        self._table.executemany("INSERT INTO notes VALUES (?, ?, ?, ?)", rows)
        self._symptoms = {n.ref: [_words(phrase) for phrase in n.symptoms] for n in notes}

    def refs(self, query: str) -> list[str]:
        """Refs of the notes that share a word with the query, best first.

        Notes one of whose symptoms, of two words or more, is in the query word by word come first.
        """
        words = list(dict.fromkeys(_words(query)))[:MOST_WORDS]
        if not words:
            return []
        matched = self._table.execute(
            f"SELECT ref FROM notes WHERE notes MATCH ? ORDER BY bm25(notes, {_WEIGHTED}), ref",
            (" OR ".join(f'"{word}"' for word in words),),
        )
        said = f" {' '.join(_words(query))} "
        return sorted((ref for (ref,) in matched), key=lambda ref: -self._certain(ref, said))

    def _certain(self, ref: str, said: str) -> int:
        """Words of the longest symptom of a note that a text says; 0 for a single word."""
        phrases = (phrase for phrase in self._symptoms[ref] if f" {' '.join(phrase)} " in said)
        longest = max(map(len, phrases), default=0)
        return longest if longest > 1 else 0


_WEIGHTED = ", ".join(map(str, WEIGHTS))


def _words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]
