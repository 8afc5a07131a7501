"""The ten questions that the report answers first, for readers who do not know the paper.

An answer is a plain sentence or two, the verdicts that decide it (each from the tier that says most
about the method), and where in the page its figure or table is. Words are here; numbers come from
verdicts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xpeft.claims import NO_EVIDENCE

Json = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A question with what is always true of its answer.

    Attributes:
        text: the question.
        answer: words that need no measurement.
        claims: ids of the claims whose verdicts decide the rest.
        places: (id in the page, name of the link): where the figure or table is. A name of PARTS
            is that part of the first tier that has it.
    """

    text: str
    answer: str
    claims: tuple[str, ...] = ()
    places: tuple[tuple[str, str], ...] = ()


PARTS = {
    "results": "tasks",
    "ablations": "ablations",
    "profiles": "cohorts",
    "sizes": "sizes",
    "allin": "allin",
}
"""Parts of a tier's section, with the key that says whether they have anything to show."""

QUESTIONS = (
    Question(
        "What is the key idea?",
        "All profiles share one bank of frozen adapters. A profile is not an adapter of its own "
        "but a choice among these: which down-projections and which up-projections, block by "
        "block.",
        places=(("idea", "the method, drawn"),),
    ),
    Question(
        "Why masks rather than new adapters?",
        "A new adapter is hundreds of thousands of numbers for each profile; a mask is one number, "
        "or one bit, for each adapter of the bank, in each block and side. The bank is paid for "
        "once.",
        ("trained-parameters", "parity-soft", "parity-hard"),
        (("calculation", "bytes from one profile to a million"),),
    ),
    Question(
        "Where do the 10,000 times come from?",
        "From bytes of an adapter in float32 over bits of two hard masks. Whether they hold for "
        "all that a profile takes depends on the rest: a norm of its own, or a head in full, is "
        "far more than its masks.",
        (
            "memory-masks",
            "memory-norm",
            "memory-head",
            "memory-all-in",
            "memory-all-in-binary",
            "all-in-tasks",
            "all-in-seeded",
            "authors-parity",
            "authors-parity-base",
        ),
        (("calculation", "the calculation, step by step"), ("allin", "all-in, with its score")),
    ),
    Question(
        "Hard or soft masks?",
        "For each adapter of the bank, in each block and side, a hard mask takes a bit where a "
        "soft one takes four bytes, and knows less: chosen or not.",
        ("hard-soft",),
        (("results", "scores of both"),),
    ),
    Question(
        "Can a bank of random adapters do (the lottery-ticket view)?",
        "A random bank is nothing but a seed. If masks over it learn, what is learned is the "
        "choice.",
        ("random-soft", "random-hard"),
        (("results", "scores beside a head alone"),),
    ),
    Question(
        "What do M_A and M_B each add?",
        "M_A chooses down-projections, M_B up-projections. One mask for both sides takes half the "
        "bytes.",
        ("separate-masks",),
        (("ablations", "ablations, one change each"),),
    ),
    Question(
        "Is a bank of trained adapters better than a random one?",
        "Trained adapters come from other tasks, never from the one that is tested.",
        (
            "trained-random",
            "trained-random-soft",
            "parity-soft-trained",
            "parity-hard-trained",
        ),
        (("results", "scores over both banks"),),
    ),
    Question(
        "On authors: does a warm bank beat a random one?",
        "A warm bank holds adapters tuned on other authors (donors), who are never among those "
        "tested. Masks over it start from what the donors learned together, which is a model in "
        "itself.",
        ("warm-random", "authors-bias"),
        (("profiles", "author by author"),),
    ),
    Question(
        "Do more adapters help, and when does it hurt?",
        "Each adapter more costs a profile two bits (hard) or eight bytes (soft) a block, and all "
        "of them memory of the bank and time to add it up.",
        ("more-adapters", "more-adapters-soft", "too-many-adapters"),
        (("sizes", "scores and costs by N"),),
    ),
    Question(
        "One profile or hundreds: what to use it for?",
        "For one profile an adapter is cheap enough. Masks pay where there are many profiles: they "
        "train together, are served in one batch, and are kept in one file.",
        ("authors-parity", "authors-shared", "authors-bias"),
        (("calculation", "bytes from one profile to a million"), ("profiles", "author by author")),
    ),
)
"""In the order of the page."""


def make_answers(sections: Sequence[Json]) -> list[Json]:
    """The questions with their verdicts.

    Args:
        sections: the tiers as the page has them, what says most about the method first.

    Returns:
        text, answer, verdicts (tier, statement, verdict, kind, sentence, href) and places (href,
        name).
    """
    return [
        {
            "text": question.text,
            "answer": question.answer,
            "verdicts": [_verdict(claim, sections) for claim in question.claims if sections],
            "places": [
                {"href": href, "name": name}
                for place, name in question.places
                if (href := _place(place, sections)) is not None
            ],
        }
        for question in QUESTIONS
    ]


def _place(place: str, sections: Sequence[Json]) -> str | None:
    """The id in the page; None for a part that no tier has."""
    if place not in PARTS:
        return place
    with_it = (section["id"] for section in sections if section[PARTS[place]])
    return next((f"{tier}-{place}" for tier in with_it), None)


def _verdict(claim: str, sections: Sequence[Json]) -> Json:
    """The verdict of the first tier that has evidence, or that there is none."""
    found = [
        (section["id"], item)
        for section in sections
        for item in section["claims"]["all"]
        if item["key"] == claim
    ]
    tier, best = next((pair for pair in found if pair[1]["verdict"] != NO_EVIDENCE), found[0])
    return {
        "tier": "counted" if best["exact"] else tier,
        "statement": best["statement"],
        "verdict": best["verdict"],
        "kind": best["kind"],
        "sentence": best["sentence"],
        "href": f"counted-{claim}" if best["exact"] else best["id"],
    }
