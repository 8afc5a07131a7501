"""The ten questions: each is answered from verdicts that exist, from the tier that says most."""

from __future__ import annotations

from typing import Any

from xpeft.claims import NO_EVIDENCE, VERDICTS, load_claims
from xpeft.report.answers import PARTS, QUESTIONS, make_answers


def section(tier: str, verdict: str, **parts: Any) -> dict[str, Any]:
    """A tier as the page has it, with the same verdict on all claims."""
    claims = [
        {
            "key": claim["id"],
            "id": f"{tier}-{claim['id']}",
            "statement": claim["statement"],
            "sentence": f"{verdict} in {tier}.",
            "verdict": verdict,
            "kind": verdict,
            "exact": claim["test"] == "count",
            "caveat": "",
        }
        for claim in load_claims()["claims"]
    ]
    empty: dict[str, Any] = {key: [] for key in PARTS.values()}
    return {"id": tier, "claims": {"all": claims}, **empty, **parts}


def test_there_are_ten_and_they_rest_on_claims_that_exist() -> None:
    assert len(QUESTIONS) == len({question.text for question in QUESTIONS}) == 10
    known = {claim["id"] for claim in load_claims()["claims"]}
    for question in QUESTIONS:
        assert set(question.claims) <= known, question.text
        assert question.places, question.text
        assert set(question.outcomes) <= set(question.claims), question.text
        for words in question.outcomes.values():
            assert set(words) <= set(VERDICTS) - {NO_EVIDENCE}


def test_each_claim_of_scores_has_words() -> None:
    scores = {item["id"] for item in load_claims()["claims"] if item["test"] != "count"}
    elsewhere = {"authors-parity", "authors-parity-base"}  # said where people are the question
    for question in QUESTIONS:
        silent = scores & set(question.claims) - set(question.outcomes)
        assert silent <= elsewhere, question.text
    assert elsewhere <= {claim for question in QUESTIONS for claim in question.outcomes}


def test_what_came_out_follows_the_verdicts() -> None:
    outcomes = {
        verdict: [answer["outcome"] for answer in make_answers([section("small", verdict)])]
        for verdict in ("supported", "contradicted", "inconclusive")
    }
    for question, *said in zip(QUESTIONS, *outcomes.values(), strict=True):
        assert len(set(said)) == (3 if question.outcomes else 1), question.text
    silent = make_answers([section("small", NO_EVIDENCE)])
    assert {answer["outcome"] for answer in silent} == {""}


def test_the_first_tier_with_evidence_answers() -> None:
    answers = make_answers([section("small", NO_EVIDENCE), section("quick", "supported")])
    verdicts = [verdict for answer in answers for verdict in answer["verdicts"]]
    assert {verdict["sentence"] for verdict in verdicts} == {"supported in quick."}
    answers = make_answers([section("small", "contradicted"), section("quick", "supported")])
    assert answers[3]["verdicts"][0]["sentence"] == "contradicted in small."
    assert answers[3]["verdicts"][0]["tier"] == "small"
    assert answers[3]["verdicts"][0]["href"] == "small-hard-soft"
    assert answers[2]["verdicts"][0]["href"] == "counted-memory-masks"


def test_an_outcome_says_what_it_hangs_on() -> None:
    there = section("small", "supported")
    for claim in there["claims"]["all"]:
        claim["caveat"] = "not without CoLA" if claim["key"] == "hard-soft" else ""
    answers = make_answers([there])
    assert answers[3]["outcome"] == "Hard: they lose no point to soft ones (not without CoLA)."
    assert "without CoLA" not in answers[4]["outcome"]


def test_links_lead_to_parts_that_are_there() -> None:
    answers = make_answers(
        [section("small", "supported"), section("quick", "supported", tasks=[1])]
    )
    hrefs = {place["href"] for answer in answers for place in answer["places"]}
    assert hrefs == {"idea", "calculation", "quick-results"}
    assert all(not answer["verdicts"] for answer in make_answers([]))
