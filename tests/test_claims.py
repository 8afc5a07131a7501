"""Claims: each verdict can be reached, from the evidence it names and from no other."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import (
    QUICK,
    SMALL,
    make_cohort_record,
    make_ledger,
    make_people,
    make_record,
    make_tier,
)

from xpeft import stats
from xpeft.claims import CLAIMS_FILE, NO_EVIDENCE, VERDICTS, judge, load_claims, write_claims
from xpeft.errors import ConfigError
from xpeft.io import read_json, write_json
from xpeft.records import record_path, write_record
from xpeft.report.claims_page import write_claims_page
from xpeft.report.summary import majority_score, make_summary, varied, write_summary
from xpeft.report.verdict_words import caveat_text, checks_text, p_text, yardstick_text


def arm(
    name: str, scores: dict[str, list[float]], *, majority: float = 0.5, **fields: Any
) -> list[dict[str, Any]]:
    """The entries of a summary for one arm on some tasks; scores by task."""
    cell = {"method": "x_peft", "mask": None, "bank": None, "n": None, "k": None, "variant": ""}
    cell |= {"head": None, "profiles": None}
    return [
        {
            **cell,
            **fields,
            "suite": "glue",
            "task": task,
            "arm": name,
            "seeds": list(range(len(values))),
            "scores": values,
            "over_seeds": {"mean": sum(values) / len(values)},
            "majority": majority,
            "bytes": {"total": fields.get("n") or 1},
            "parameters": {"total": 10},
            "records": [f"glue/{task}/{name}/seed{seed}.json" for seed in range(len(values))],
        }
        for task, values in scores.items()
    ]


def verdict(claim: str, arms: list[dict[str, Any]], tier: str = "small") -> dict[str, Any]:
    found = judge(load_claims(), {"tier": tier, "arms": arms, "records": {}})["verdicts"]
    (one,) = [item for item in found if item["id"] == claim]
    return one


ADAPTER = arm("adapter", {"sst2": [0.80, 0.81, 0.79]}, method="single_adapter")
HARD = {"mask": "hard", "bank": "random", "n": 100, "k": 50}


def hard(*scores: float, name: str = "hard", **fields: Any) -> list[dict[str, Any]]:
    return arm(name, {"sst2": list(scores)}, **{**HARD, **fields})


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((0.798, 0.809, 0.787), "supported"),  # 0.2 points below, always: inside of the margin
        ((0.770, 0.781, 0.759), "contradicted"),  # 3 points below, always
        ((0.850, 0.770, 0.800), "inconclusive"),  # level on average, but of wide spread
    ],
)
def test_parity_is_non_inferiority_with_a_margin(scores: tuple[float, ...], expected: str) -> None:
    jitter = (0.0002, -0.0001, 0.0)
    found = verdict(
        "parity-hard", ADAPTER + hard(*(a + b for a, b in zip(scores, jitter, strict=True)))
    )
    assert found["verdict"] == expected
    low, high = found["interval"]["low"], found["interval"]["high"]
    assert found["bound"] == -1.0
    assert (low > -1) == (expected == "supported")
    assert (high < -1) == (expected == "contradicted")
    assert found["interval"]["over"] == "seeds"
    assert found["seeds"] == [0, 1, 2]
    assert found["arms"] == ["hard", "adapter"]
    assert len(found["records"]) == 6


def test_seeds_are_those_that_both_sides_have() -> None:
    found = verdict("parity-hard", ADAPTER + hard(0.81, 0.80, 0.82, 0.79, 0.80))
    assert found["seeds"] == [0, 1, 2]
    names = [f"glue/sst2/{arm}/seed{seed}.json" for arm in ("hard", "adapter") for seed in range(3)]
    assert found["records"] == names


def test_an_untrained_head_decides_nothing_that_does_not_ask_for_it() -> None:
    low = arm("a", {"sst2": [0.70, 0.71, 0.69]}, method="single_adapter", head="seeded")
    masks = hard(0.770, 0.781, 0.7592)
    assert verdict("parity-hard", ADAPTER + low + masks)["arms"] == ["hard", "adapter"]
    assert verdict("parity-hard", low + masks)["verdict"] == NO_EVIDENCE
    assert verdict("parity-hard", ADAPTER + hard(0.9, 0.9, 0.91, head="seeded"))["arms"] == []


def test_one_seed_concludes_nothing() -> None:
    adapter = arm("adapter", {"sst2": [0.8]}, method="single_adapter")
    found = verdict("parity-hard", adapter + hard(0.9))
    assert found["verdict"] == "inconclusive"
    assert found["p_value"] is None
    assert "one seed" in found["sentence"]


def test_a_task_where_the_yardstick_learned_nothing_cannot_show_parity() -> None:
    at_majority = arm("adapter", {"wnli": [0.5, 0.5, 0.5]}, method="single_adapter")
    masks = arm("hard", {"wnli": [0.5, 0.5, 0.5]}, **HARD)
    assert verdict("parity-hard", at_majority + masks)["verdict"] == NO_EVIDENCE
    both = verdict("parity-hard", ADAPTER + hard(0.770, 0.7812, 0.759) + at_majority + masks)
    assert both["left_out"] == ["glue/wnli"]
    assert both["verdict"] == "contradicted"
    assert "WNLI" in both["sentence"]
    assert not any("wnli" in path for path in both["records"])


def test_a_task_where_nobody_learned_is_no_evidence_that_masks_do() -> None:
    below = arm("head", {"wnli": [0.13, 0.15, 0.13]}, method="head_only")
    less = arm("hard", {"wnli": [0.27, 0.25, 0.31]}, **HARD)
    assert verdict("random-hard", below + less)["verdict"] == NO_EVIDENCE


def test_better_is_superiority() -> None:
    head = arm("head", {"sst2": [0.80, 0.81, 0.79]}, method="head_only")
    assert verdict("random-hard", head + hard(0.85, 0.862, 0.84))["verdict"] == "supported"
    assert verdict("random-hard", head + hard(0.75, 0.762, 0.74))["verdict"] == "contradicted"
    assert verdict("random-hard", head + hard(0.82, 0.80, 0.80))["verdict"] == "inconclusive"


def test_tasks_count_the_same_and_are_corrected_together() -> None:
    tasks = {"sst2": [0.80, 0.81, 0.79], "cola": [0.50, 0.51, 0.52]}
    head = arm("head", tasks, method="head_only", majority=0.0)
    better = {"sst2": [0.84, 0.851, 0.832], "cola": [0.52, 0.531, 0.538]}
    found = verdict("random-hard", head + arm("hard", better, **HARD))
    assert found["effect"] == pytest.approx((4.1 + 1.966667) / 2, abs=1e-4)
    alone = {
        task: stats.paired(
            {task: dict(enumerate(better[task]))}, {task: dict(enumerate(tasks[task]))}
        )
        for task in tasks
    }
    p_values = {
        f"glue/{task}": test.p_above
        for task, difference in alone.items()
        if difference and (test := stats.against(difference, 0.0))
    }
    assert {task["task"]: task["p_value"] for task in found["tasks"]} == pytest.approx(
        stats.holm(p_values)
    )


def test_the_deciding_arm_is_chosen_by_coverage_and_size_never_by_score() -> None:
    large = hard(0.84, 0.852, 0.83, name="large", n=400, k=200)
    small = hard(0.77, 0.7812, 0.759, name="small")
    found = verdict("parity-hard", ADAPTER + large + small)
    assert found["arms"] == ["small", "adapter"]
    assert found["verdict"] == "contradicted"
    (other,) = found["also"]
    assert (other["arms"], other["verdict"]) == (["large", "adapter"], "supported")


def test_hard_and_soft_are_compared_over_banks_of_one_size() -> None:
    soft = arm("soft400", {"sst2": [0.8, 0.81, 0.79]}, mask="soft", bank="random", n=400)
    assert verdict("hard-soft", soft + hard(0.8, 0.81, 0.79))["verdict"] == NO_EVIDENCE
    larger = hard(0.8, 0.81, 0.79, name="hard400", n=400, k=200)
    assert verdict("hard-soft", soft + larger)["arms"] == ["hard400", "soft400"]


def test_ablations_decide_only_the_claims_that_name_them() -> None:
    tied = hard(0.70, 0.712, 0.69, name="hard-tied", variant="tied")
    assert verdict("parity-hard", ADAPTER + tied)["verdict"] == NO_EVIDENCE
    found = verdict("separate-masks", hard(0.80, 0.81, 0.79) + tied)
    assert (found["verdict"], found["arms"]) == ("supported", ["hard", "hard-tied"])


def test_evidence_of_another_suite_or_tier_is_none() -> None:
    arms = ADAPTER + hard(0.9, 0.912, 0.89)
    assert verdict("parity-hard", arms, tier="quick")["verdict"] == NO_EVIDENCE
    assert verdict("parity-hard", arms, tier="small")["verdict"] == "supported"


def test_the_tier_names_its_own_data(tmp_path: Path) -> None:
    make_tier(tmp_path, tier="quick", tasks=QUICK, seeds=2)
    found = judge(load_claims(), make_summary(tmp_path / "records"))
    statements = {item["id"]: item["statement"] for item in found["verdicts"]}
    assert statements["parity-soft"].endswith("adapter tuning on the generated sentences.")
    assert not any("{data}" in item["statement"] for item in found["verdicts"])


def test_counted_claims() -> None:
    found = judge(load_claims(), {"tier": "small", "arms": [], "records": {}}, [make_ledger()])[
        "verdicts"
    ]
    exact = {
        item["id"]: (item["verdict"], round(item["effect"])) for item in found if item["effect"]
    }
    assert exact == {
        "memory-masks": ("supported", 11468),
        "memory-norm": ("contradicted", 727),
        "memory-head": ("contradicted", 77),
        "memory-all-in": ("supported", 10462),
        "memory-all-in-binary": ("supported", 10079),
        "trained-parameters": ("supported", 373),
        "trained-parameters-head": ("supported", 228),
    }
    sentence = next(item["sentence"] for item in found if item["id"] == "memory-masks")
    assert "3,578,112 / 312" in sentence


@pytest.mark.parametrize("ledger", [("all-MiniLM-L6-v2", 100), ("bert-base-uncased", 400)])
def test_a_ledger_of_another_case_is_no_evidence(ledger: tuple[str, int]) -> None:
    found = judge(
        load_claims(), {"tier": "small", "arms": [], "records": {}}, [make_ledger(*ledger)]
    )
    assert {item["verdict"] for item in found["verdicts"]} == {NO_EVIDENCE}
    both = judge(
        load_claims(),
        {"tier": "small", "arms": [], "records": {}},
        [make_ledger(*ledger), make_ledger()],
    )
    assert both["verdicts"][0]["verdict"] == "supported"


def test_parameters_are_counted_in_records(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2", "glue/rte"), seeds=1)
    found = judge(load_claims(), make_summary(tmp_path / "records"))["verdicts"]
    (one,) = [item for item in found if item["id"] == "trained-parameters-all"]
    assert one["effect"] == pytest.approx((113040 + 770 - 0) / (1200 + 770), rel=1e-3)
    assert (one["verdict"], one["unit"]) == ("contradicted", "times")


def test_every_claim_has_a_verdict_without_any_evidence(tmp_path: Path) -> None:
    write_summary(tmp_path / "small" / "records", tmp_path / "summary.json")
    write_claims(tmp_path / "summary.json", tmp_path / "claims.json")
    found = read_json(tmp_path / "claims.json")
    assert found["tier"] == "small"
    assert {item["verdict"] for item in found["verdicts"]} == {NO_EVIDENCE}
    assert all(item["sentence"].startswith("No evidence yet: needs") for item in found["verdicts"])


def test_written_claims(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2",))
    write_summary(tmp_path / "records", tmp_path / "summary.json")
    write_json(tmp_path / "ledger.json", make_ledger())
    write_claims(tmp_path / "summary.json", tmp_path / "claims.json", [tmp_path / "ledger.json"])
    found = read_json(tmp_path / "claims.json")["verdicts"]
    assert {item["verdict"] for item in found} <= set(VERDICTS)
    known = set(make_summary(tmp_path / "records")["records"])
    assert all(set(item["records"]) <= known for item in found)


def test_each_claim_says_what_it_needs_to_say() -> None:
    claims = load_claims()["claims"]
    assert len(claims) >= 12
    assert {claim["source"] for claim in claims} == {"paper", "ours"}
    for claim in claims:
        assert claim["statement"].endswith(".")
        assert claim["needs"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margin": None}, "margin: missing"),
        ({"source": "me"}, "found 'me', expected paper or ours"),
        ({"test": "eyeball"}, "found 'eyeball', expected one of count"),
        ({"colour": "red"}, "colour: unknown"),
    ],
)
def test_a_bad_claims_file_names_the_field(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    import yaml

    value = copy.deepcopy(yaml.safe_load(CLAIMS_FILE.read_text()))
    (claim,) = [item for item in value["claims"] if item["id"] == "parity-soft"]
    claim.update(change)
    if change == {"margin": None}:
        del claim["margin"]
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match=message):
        load_claims(tmp_path / "claims.yaml")


def test_a_claims_file_that_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "claims.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"claims\.yaml: "):
        load_claims(tmp_path / "claims.yaml")
    with pytest.raises(ConfigError, match="No such file"):
        load_claims(tmp_path / "absent.yaml")


def test_a_claim_is_not_decided_by_records_that_disagree_on_their_cell(tmp_path: Path) -> None:
    from xpeft.errors import RecordError

    for seed in (0, 1):
        record = make_record(seed=seed)
        record["cell"]["k"] = 50 - seed
        write_record(tmp_path / record_path(record["cell"]), record)
    with pytest.raises(RecordError, match=r"seed1\.json: cell\.k: found 49, expected 50"):
        make_summary(tmp_path)


def test_a_claim_on_authors_takes_all_sets_whatever_their_banks_size(tmp_path: Path) -> None:
    for cohort, n in (("huffpost", 40), ("md_agreement", 100)):
        people = make_people(cohort, labels=("a", "b", "c", "d"))
        for name in ("hard-warm", "hard-random", "bias"):
            for seed in range(2):
                record = make_cohort_record(people, name, seed, cohort=cohort)
                record["result"]["profiles"].pop("masks", None)
                if record["cell"]["n"]:
                    record["cell"]["n"] = n
                write_record(tmp_path / "records" / record_path(record["cell"]), record)
    arms = make_summary(tmp_path / "records")["arms"]
    for claim in ("warm-random", "authors-bias"):
        found = verdict(claim, arms)
        assert [task["task"] for task in found["tasks"]] == [
            "profiles/huffpost",
            "profiles/md_agreement",
        ]
        assert found["interval"]["over"] == "profiles and seeds"
        for task in found["tasks"]:
            counted, everybody = task["profiles"]
            assert 0 < counted < everybody
            own = {a["arm"]: a for a in arms if f"{a['suite']}/{a['task']}" == task["task"]}
            right, left = own[found["arms"][1]], own[found["arms"][0]]
            kept = varied(right["profiles"])
            means = [
                np.mean([[row[i] for i in kept] for row in side["profiles"]["accuracy"]])
                for side in (left, right)
            ]
            assert task["right"] == pytest.approx(100 * means[1])
            assert task["effect"] == pytest.approx(100 * (means[0] - means[1]))
        with_everybody = []
        for cohort in ("huffpost", "md_agreement"):
            own = {
                a["arm"]: np.mean(a["profiles"]["accuracy"]) for a in arms if a["task"] == cohort
            }
            with_everybody.append(own[found["arms"][0]] - own[found["arms"][1]])
        assert found["with_everyone"]["effect"] == pytest.approx(100 * np.mean(with_everybody))
        assert "With all profiles" in checks_text(found)
    assert verdict("authors-parity", arms)["verdict"] == NO_EVIDENCE  # the arm is not there


def test_a_verdict_says_what_its_data_could_have_told() -> None:
    found = verdict("parity-hard", ADAPTER + hard(0.798, 0.811, 0.785))
    low, high = found["interval"]["low"], found["interval"]["high"]
    # the half width would be passed by equal methods half of the time only
    assert found["detectable"] > (high - low) / 2
    assert found["equivalence"] >= found["p_value"]
    assert found["seeds_needed"] >= 2
    better = verdict("random-hard", arm("head", {"sst2": [0.7, 0.71, 0.7]}, method="head_only")
                     + hard(0.80, 0.81, 0.805))  # fmt: skip
    assert better["equivalence"] is None
    one = verdict("parity-hard", arm("adapter", {"sst2": [0.8]}, method="single_adapter") + hard(1))
    assert (one["detectable"], one["equivalence"], one["seeds_needed"]) == (None, None, None)


def test_the_page_of_claims_links_each_number_to_records_that_are_there(tmp_path: Path) -> None:
    tier = tmp_path / "results" / "small"
    make_tier(tier, tasks=SMALL[:3])
    write_summary(tier / "records", tier / "summary.json")
    claims = write_claims(tier / "summary.json", tier / "claims.json")
    write_claims_page(claims, tmp_path / "CLAIMS.md", tier / "records")
    text = (tmp_path / "CLAIMS.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    folders = [link for link in links if link.startswith("results/")]
    assert len(folders) > 20
    for link in folders:
        assert list((tmp_path / link).glob("seed*.json")), link
    headings = set(re.findall(r"^## (.+)$", text, re.M))
    assert headings == {item["id"] for item in claims["verdicts"]} | {"changes"}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) == headings
    for item in claims["verdicts"]:
        assert item["sentence"] in text


def test_all_claims_leave_out_the_tasks_on_which_the_adapter_learned_nothing() -> None:
    adapter = arm("adapter", {"rte": [0.49, 0.5, 0.5]}, method="single_adapter")
    head = arm("head", {"sst2": [0.6, 0.61, 0.6], "rte": [0.5, 0.49, 0.48]}, method="head_only")
    masks = arm("hard", {"sst2": [0.7, 0.72, 0.71], "rte": [0.56, 0.55, 0.57]}, **HARD)
    found = verdict("random-hard", ADAPTER + adapter + head + masks)
    assert found["left_out"] == ["glue/rte"]
    assert [task["task"] for task in found["tasks"]] == ["glue/sst2"]
    assert found["with_all"]["effect"] == pytest.approx((10.666667 + 7) / 2, abs=1e-4)
    assert found["with_each"] == []  # that is the same
    assert verdict("random-hard", ADAPTER + head[:1] + masks[:1])["with_all"] is None


def test_a_verdict_says_what_each_task_that_is_left_out_would_change() -> None:
    flat = {"rte": [0.49, 0.5, 0.5], "wnli": [0.49, 0.5, 0.5]}
    low = {"sst2": [0.6, 0.61, 0.6], "rte": [0.5, 0.49, 0.5], "wnli": [0.5, 0.5, 0.49]}
    high = {"sst2": [0.7, 0.72, 0.71], "rte": [0.38, 0.37, 0.38], "wnli": [0.7, 0.71, 0.69]}
    arms = arm("adapter", flat, method="single_adapter") + arm("head", low, method="head_only")
    found = verdict("random-hard", ADAPTER + arms + arm("hard", high, **HARD))
    assert (found["verdict"], found["with_all"]["verdict"]) == ("supported", "supported")
    each = {item["task"]: item["verdict"] for item in found["with_each"]}
    assert each == {"glue/rte": "inconclusive", "glue/wnli": "supported"}
    assert "depends on that choice: with RTE alone " in checks_text(found)
    assert "with WNLI alone" not in checks_text(found)
    assert "with RTE the verdict differs" in caveat_text(found)


def test_a_verdict_names_the_tasks_without_records_of_both_sides() -> None:
    head = arm("head", {"sst2": [0.6, 0.61], "cola": [0.6, 0.61]}, method="head_only")
    masks = arm("hard", {"sst2": [0.7, 0.72]}, **HARD)
    found = verdict("random-hard", ADAPTER + head + masks)
    assert "glue/cola" in found["unmeasured"] and "glue/sst2" not in found["unmeasured"]
    assert "Not measured on" in found["sentence"] and "CoLA" in found["sentence"]


def test_a_verdict_says_where_it_is_weak_among_so_many() -> None:
    found = {"verdict": "supported", "p_family": 0.2}
    found |= {"without": [], "with_each": [], "with_everyone": None}
    assert caveat_text(found) == "weak evidence among so many claims"
    assert caveat_text(found | {"p_family": 0.01}) == ""
    assert caveat_text(found | {"verdict": "inconclusive"}) == ""


def test_a_verdict_says_where_all_profiles_give_another() -> None:
    found = {"verdict": "supported", "p_family": 0.01, "without": [], "with_each": []}
    assert caveat_text(found | {"with_everyone": {"verdict": "supported"}}) == ""
    other = found | {"with_everyone": {"verdict": "inconclusive"}}
    assert caveat_text(other) == "with all profiles the verdict differs"


def test_a_verdict_says_which_single_tasks_it_depends_on() -> None:
    low = {"sst2": [0.6, 0.61, 0.6], "cola": [0.6, 0.6, 0.61], "mrpc": [0.6, 0.61, 0.61]}
    high = {"sst2": [0.9, 0.92, 0.91], "cola": [0.58, 0.62, 0.61], "mrpc": [0.59, 0.62, 0.61]}
    found = verdict("random-hard", arm("head", low, method="head_only") + arm("hard", high, **HARD))
    assert found["verdict"] == "supported"
    without = {item["task"]: item["verdict"] for item in found["without"]}
    assert without == {
        "glue/sst2": "inconclusive",
        "glue/cola": "supported",
        "glue/mrpc": "supported",
    }
    assert "without SST-2" in checks_text(found)
    assert "without CoLA" not in checks_text(found)


def test_a_task_without_a_shared_seed_is_not_one_of_those_left_out_in_turn() -> None:
    head = arm("head", {"sst2": [0.6, 0.61], "cola": [0.6, 0.61], "mrpc": [0.6, 0.6]},
               method="head_only")  # fmt: skip
    masks = arm("hard", {"sst2": [0.7, 0.72], "cola": [0.7, 0.7], "mrpc": [0.7, 0.7]}, **HARD)
    masks[2]["seeds"] = [7, 8]
    found = verdict("random-hard", head + masks)
    assert len(found["tasks"]) == 2
    assert [item["task"] for item in found["without"]] == ["glue/sst2", "glue/cola"]
    assert checks_text(found) == "Without one task in turn it is between +9.5 and +10.5."
    one = verdict("random-hard", head[:1] + masks[:1])
    assert one["without"] == [] and checks_text(one) == ""


def test_a_task_says_what_it_was_measured_against() -> None:
    (task,) = verdict("parity-hard", ADAPTER + hard(0.770, 0.7812))["tasks"]
    # of the seeds that both have
    assert yardstick_text(task) == "80.5 (learning nothing 50.0); 2 seeds"
    contradicted = verdict("parity-hard", ADAPTER + hard(0.770, 0.7812, 0.759))
    assert p_text(contradicted).startswith("p of the contradiction ")
    assert "decides below 0.025" in p_text(contradicted)
    assert contradicted["p_against"] < 0.025 < contradicted["p_value"]


@pytest.mark.parametrize(
    ("task", "usual", "expected"),
    [("sst2", 0.51, 0.51), ("sst2", 0.45, 0.5), ("mnli", 0.3, 1 / 3), ("copa", 0.45, 0.5)],
)
def test_guessing_is_the_least_that_an_accuracy_must_beat(
    task: str, usual: float, expected: float
) -> None:
    cell = {"suite": "superglue" if task == "copa" else "glue", "task": task}
    classes = 3 if task == "mnli" else 2
    result = {
        "primary": "accuracy",
        "majority": {"accuracy": usual, "f1": 0.2},
        "confusion": [[1] * classes] * classes,
        "rows": {"validation": 200},
        "questions": {"below": [1.0] * 100},
    }
    assert majority_score(cell, result) == expected
    assert majority_score(cell, {**result, "primary": "f1"}) == 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"date": "2026-11-24"}, r"changes\[0\]: expected the fields date, claims"),
        (None, r"changes\[0\]: expected the fields date, claims"),
        (
            {"date": "2026-11-24", "claims": "parity-soft", "change": "a", "reason": "b"},
            r"changes\[0\]\.claims: found 'parity-soft', expected all or a list of ids",
        ),
        (
            {"date": "2026-11-24", "claims": ["no-such"], "change": "a", "reason": "b"},
            r"changes\[0\]\.claims: found 'no-such', expected the id of a claim",
        ),
    ],
)
def test_a_change_of_the_claims_says_what_and_why(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    import yaml

    value = yaml.safe_load(CLAIMS_FILE.read_text())
    value["changes"] = [change]
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match=message):
        load_claims(tmp_path / "claims.yaml")


def test_claims_are_also_judged_as_a_family() -> None:
    head = arm("head", {"sst2": [0.6, 0.61, 0.62]}, method="head_only")
    arms = ADAPTER + head + hard(0.779, 0.781, 0.759)
    found = judge(load_claims(), {"tier": "small", "arms": arms, "records": {}})["verdicts"]
    tested = [item for item in found if item["p_value"] is not None]
    assert len(tested) == 3  # parity, masks against the head, adapter against the head
    plain = {item["id"]: 2 * min(item["p_value"], item["p_against"]) for item in tested}
    assert {item["id"]: item["p_family"] for item in tested} == stats.holm(plain)
    assert all(item["p_family"] is None for item in found if item["id"] not in plain)


def test_worse_by_an_open_amount_is_said_so() -> None:
    found = verdict("parity-hard", ADAPTER + hard(0.790, 0.801, 0.778))
    assert found["verdict"] == "inconclusive"
    assert found["interval"]["high"] < 0
    assert "worse, but perhaps by less than that" in found["sentence"]
    open_ = verdict("parity-hard", ADAPTER + hard(0.80, 0.78, 0.80))
    assert open_["verdict"] == "inconclusive"
    assert "worse" not in open_["sentence"]
