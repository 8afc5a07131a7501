"""The ten questions that the report answers first, for readers who do not know the paper.

An answer is a plain sentence or two, what came out, the verdicts that decide it (each from the tier
that says most about the method), and where in the page its figure or table is. Words are here, for
each verdict that a claim may get, with what it hangs on; numbers come from verdicts alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xpeft.claims import CONTRADICTED, INCONCLUSIVE, NO_EVIDENCE, SUPPORTED

Json = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A question with what is always true of its answer.

    Attributes:
        text: the question.
        answer: words that need no measurement.
        claims: ids of the claims whose verdicts decide the rest.
        outcomes: by the id of one of these, what to say for its verdict; nothing for one that is
            not there.
        places: (id in the page, name of the link): where the figure or table is. A name of PARTS
            is that part of the first tier that has it.
    """

    text: str
    answer: str
    claims: tuple[str, ...] = ()
    outcomes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
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
        (
            "trained-parameters",
            "parity-soft",
            "parity-hard",
            "parity-soft-long",
            "parity-hard-long",
        ),
        {
            "parity-soft": {
                SUPPORTED: "With soft masks nothing is lost to an adapter.",
                CONTRADICTED: "They are paid for in score: soft masks stay below an adapter.",
                INCONCLUSIVE: "Whether soft masks lose to an adapter is open.",
            },
            "parity-hard": {
                SUPPORTED: "With hard masks nothing is lost to an adapter.",
                CONTRADICTED: "Hard masks stay below an adapter.",
                INCONCLUSIVE: "Whether hard masks lose to an adapter is open.",
            },
            "parity-soft-long": {
                SUPPORTED: "Where both train three times as long, soft masks lose nothing to it.",
                CONTRADICTED: "Soft masks stay below it where both train three times as long, too.",
                INCONCLUSIVE: "Whether soft masks lose to it where both train three times as long "
                "is open.",
            },
            "parity-hard-long": {
                SUPPORTED: "Nor do hard masks, trained so long, lose to it.",
                CONTRADICTED: "So do hard masks, trained so long.",
                INCONCLUSIVE: "Whether hard masks, trained so long, lose to it is open.",
            },
        },
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
        {
            "memory-masks": {
                SUPPORTED: "They hold for the masks.",
                CONTRADICTED: "They do not hold even for the masks.",
            },
            "memory-all-in-binary": {
                SUPPORTED: "They can be had for all that a profile takes, head included.",
                CONTRADICTED: "They cannot be had with a head in it.",
            },
            "all-in-tasks": {
                SUPPORTED: "On tasks that costs no score.",
                CONTRADICTED: "On tasks that costs score.",
                INCONCLUSIVE: "Whether that costs score on tasks is open.",
            },
            "all-in-seeded": {
                SUPPORTED: "A head that is drawn from a seed, and takes no bytes, costs none.",
                CONTRADICTED: "A head that is drawn from a seed, and takes no bytes, costs score.",
                INCONCLUSIVE: "Whether a head that is drawn from a seed, and takes no bytes, costs "
                "score is open.",
            },
        },
        (("calculation", "the calculation, step by step"), ("allin", "all-in, with its score")),
    ),
    Question(
        "Hard or soft masks?",
        "For each adapter of the bank, in each block and side, a hard mask takes a bit where a "
        "soft one takes four bytes, and knows less: chosen or not.",
        ("hard-soft",),
        {
            "hard-soft": {
                SUPPORTED: "Hard: they lose no point to soft ones.",
                CONTRADICTED: "Soft, where the score matters most: hard ones lose to them.",
                INCONCLUSIVE: "Whether hard ones lose more than a point is open.",
            }
        },
        (("results", "scores of both"),),
    ),
    Question(
        "Can a bank of random adapters do (the lottery-ticket view)?",
        "A random bank is nothing but a seed. If masks over it learn, what is learned is the "
        "choice.",
        ("random-soft", "random-hard"),
        {
            "random-soft": {
                SUPPORTED: "Soft masks over it beat a head alone.",
                CONTRADICTED: "Soft masks over it are worse than a head alone.",
                INCONCLUSIVE: "Whether soft masks over it beat a head alone is open.",
            },
            "random-hard": {
                SUPPORTED: "Hard masks over it beat a head alone.",
                CONTRADICTED: "Hard masks over it are worse than a head alone.",
                INCONCLUSIVE: "Whether hard masks over it beat a head alone is open.",
            },
        },
        (("results", "scores beside a head alone"),),
    ),
    Question(
        "What do M_A and M_B each add?",
        "M_A chooses down-projections, M_B up-projections. One mask for both sides takes half the "
        "bytes.",
        ("separate-masks", "down-alone", "up-alone"),
        {
            "separate-masks": {
                SUPPORTED: "Two masks score higher than one for both.",
                CONTRADICTED: "One mask for both does at least as well.",
                INCONCLUSIVE: "Whether two score higher than one is open.",
            },
            "down-alone": {
                SUPPORTED: "M_B adds to M_A alone.",
                CONTRADICTED: "M_A alone does better than with M_B.",
                INCONCLUSIVE: "That M_B adds to M_A alone is not shown.",
            },
            "up-alone": {
                SUPPORTED: "M_A adds to M_B alone.",
                CONTRADICTED: "M_B alone does better than with M_A.",
                INCONCLUSIVE: "That M_A adds to M_B alone is not shown.",
            },
        },
        (("ablations", "ablations, one change each"),),
    ),
    Question(
        "Is a bank of trained adapters better than a random one?",
        "Trained adapters come from other tasks, never from the one that is tested (though MRPC "
        "and STS-B share some pairs of sentences).",
        (
            "trained-random",
            "trained-random-soft",
            "trained-random-plain",
            "parity-soft-trained",
            "parity-hard-trained",
        ),
        {
            "trained-random": {
                SUPPORTED: "Each as it is used, hard masks score higher over the trained one.",
                CONTRADICTED: "Each as it is used, hard masks score higher over the random one.",
                INCONCLUSIVE: "Each as it is used, it is open for hard masks.",
            },
            "trained-random-soft": {
                SUPPORTED: "So set, soft masks score higher over the trained one.",
                CONTRADICTED: "So set, soft masks score higher over the random one.",
                INCONCLUSIVE: "So set, it is open for soft masks.",
            },
            "trained-random-plain": {
                SUPPORTED: "With no norm over either, hard masks do better over the trained one.",
                CONTRADICTED: "With no norm over either, hard masks do better over the random one.",
                INCONCLUSIVE: "With no norm over either, it is open for hard masks.",
            },
            "parity-soft-trained": {
                SUPPORTED: "Over the trained one soft masks lose nothing to an adapter.",
                CONTRADICTED: "Over the trained one, too, soft masks stay below an adapter.",
                INCONCLUSIVE: "Whether soft masks over the trained one lose to an adapter is open.",
            },
            "parity-hard-trained": {
                SUPPORTED: "Over the trained one hard masks lose nothing to an adapter.",
                CONTRADICTED: "Over the trained one, too, hard masks stay below an adapter.",
                INCONCLUSIVE: "Whether hard masks over the trained one lose to an adapter is open.",
            },
        },
        (("results", "scores over both banks"),),
    ),
    Question(
        "For authors: does a warm bank beat a random one?",
        "A warm bank holds adapters tuned on other authors (donors), who are never among those "
        "tested. Masks over it start from what the donors learned together, which is a model in "
        "itself.",
        ("warm-random", "authors-base", "authors-bias"),
        {
            "warm-random": {
                SUPPORTED: "Each as it is used, the warm one is better.",
                CONTRADICTED: "Each as it is used, the random one is better.",
                INCONCLUSIVE: "Each as it is used, that is open.",
            },
            "authors-base": {
                SUPPORTED: "Masks over it beat the donors' model as it is.",
                CONTRADICTED: "The donors' model as it is does better than masks over it.",
                INCONCLUSIVE: "That masks over it beat the donors' model as it is, is not shown.",
            },
            "authors-bias": {
                SUPPORTED: "Masks beat a bias for each on the donors' model.",
                CONTRADICTED: "A bias for each on the donors' model does better than masks.",
                INCONCLUSIVE: "That masks beat a bias for each on the donors' model is not shown.",
            },
        },
        (("profiles", "person by person"),),
    ),
    Question(
        "Do more adapters help, and when does it hurt?",
        "Each adapter more costs a profile two bits (hard) or eight bytes (soft) a block, and all "
        "of them memory of the bank and time to add it up.",
        ("more-adapters", "more-adapters-soft", "too-many-adapters"),
        {
            "more-adapters": {
                SUPPORTED: "From 100 to 400 they help hard masks.",
                CONTRADICTED: "From 100 to 400 they harm hard masks.",
                INCONCLUSIVE: "Whether they help hard masks from 100 to 400 is open.",
            },
            "more-adapters-soft": {
                SUPPORTED: "From 100 to 400 they help soft masks.",
                CONTRADICTED: "From 100 to 400 they harm soft masks.",
                INCONCLUSIVE: "Whether they help soft masks from 100 to 400 is open.",
            },
            "too-many-adapters": {
                SUPPORTED: "From 400 to 800 they help no further.",
                CONTRADICTED: "From 400 to 800 they still help.",
                INCONCLUSIVE: "Whether they help further from 400 to 800 is open.",
            },
        },
        (("sizes", "scores and costs by N"),),
    ),
    Question(
        "One profile or hundreds: what to use it for?",
        "For one profile an adapter is cheap enough. With many, masks save bytes and time: they "
        "train together, are served in one batch, and are kept in one file. One model for all, or "
        "a bias for each on it, is cheaper still, and masks must beat these too.",
        (
            "authors-parity",
            "authors-adapter-learns",
            "authors-parity-long",
            "authors-parity-base",
            "authors-shared",
            "authors-bias",
        ),
        {
            "authors-parity": {
                SUPPORTED: "Masks lose nothing to an adapter for each that starts from nothing.",
                CONTRADICTED: "Masks lose to an adapter for each that starts from nothing.",
                INCONCLUSIVE: "Whether masks lose to an adapter for each that starts from nothing "
                "is open.",
            },
            "authors-adapter-learns": {
                SUPPORTED: "Such an adapter beats a head for each.",
                CONTRADICTED: "Such an adapter is itself worse than a head for each.",
                INCONCLUSIVE: "That such an adapter beats a head for each is not shown.",
            },
            "authors-parity-long": {
                SUPPORTED: "Masks lose nothing to such an adapter that trains much longer.",
                CONTRADICTED: "Masks lose to such an adapter that trains much longer.",
                INCONCLUSIVE: "Whether masks lose to one that trains much longer is open.",
            },
            "authors-parity-base": {
                SUPPORTED: "Masks lose nothing to an adapter that starts where they start.",
                CONTRADICTED: "Masks lose to an adapter that starts where they start.",
                INCONCLUSIVE: "Whether masks lose to an adapter that starts where they start is "
                "open.",
            },
            "authors-shared": {
                SUPPORTED: "Masks beat one model for all.",
                CONTRADICTED: "One model for all does better than masks.",
                INCONCLUSIVE: "That masks beat one model for all is not shown.",
            },
            "authors-bias": {
                SUPPORTED: "Masks beat a bias for each on the donors' model.",
                CONTRADICTED: "A bias for each on the donors' model does better than masks.",
                INCONCLUSIVE: "That masks beat a bias for each on the donors' model is not shown.",
            },
        },
        (("calculation", "bytes from one profile to a million"), ("profiles", "person by person")),
    ),
)
"""In the order of the page."""


def make_answers(sections: Sequence[Json]) -> list[Json]:
    """The questions with their verdicts.

    Args:
        sections: the tiers as the page has them, what says most about the method first.

    Returns:
        text, answer, outcome (words, empty without evidence), verdicts (tier, statement, verdict,
        kind, sentence, href) and places (href, name).
    """
    return [_answer(question, sections) for question in QUESTIONS]


def _answer(question: Question, sections: Sequence[Json]) -> Json:
    verdicts = {claim: _verdict(claim, sections) for claim in question.claims if sections}
    said = (
        _said(words.get(verdicts[claim]["verdict"]), verdicts[claim]["caveat"])
        for claim, words in question.outcomes.items()
        if claim in verdicts
    )
    places = ((_place(place, sections), name) for place, name in question.places)
    return {
        "text": question.text,
        "answer": question.answer,
        "outcome": " ".join(filter(None, said)),
        "verdicts": list(verdicts.values()),
        "places": [{"href": href, "name": name} for href, name in places if href is not None],
    }


def _said(sentence: str | None, caveat: str) -> str | None:
    """A sentence with what it hangs on before its full stop."""
    return sentence and (f"{sentence.removesuffix('.')} ({caveat})." if caveat else sentence)


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
        "caveat": best["caveat"],
        "href": f"counted-{claim}" if best["exact"] else best["id"],
    }
