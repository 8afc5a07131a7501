"""When two answers in words are the same, and how much of one is in the other.

The rules are those of SQuAD's evaluation (Rajpurkar et al., EMNLP 2016), which ReCoRD's official
script keeps: case, punctuation and English articles do not count.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def answer_words(text: str) -> list[str]:
    """The words of an answer that count."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def matches(answer: str, gold: Iterable[str]) -> bool:
    """Whether an answer is one of the gold ones."""
    words = answer_words(answer)
    return any(words == answer_words(other) for other in gold)


def words_f1(answer: str, gold: Iterable[str]) -> float:
    """F1 of the words of an answer against those of the gold answer that is nearest, in [0, 1]."""
    return max((_f1(answer_words(answer), answer_words(other)) for other in gold), default=0.0)


def _f1(found: list[str], gold: list[str]) -> float:
    shared = sum((Counter(found) & Counter(gold)).values())
    return 2 * shared / (len(found) + len(gold)) if shared else 0.0
