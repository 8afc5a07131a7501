"""The report of cohorts: pairs, masks, figures, tables and the section of the page."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import (
    BLOCKS,
    COHORT_ARMS,
    make_cohort,
    make_cohort_record,
    make_ledger,
    make_people,
    make_tier,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from xpeft import stats
from xpeft.io import write_json
from xpeft.ledger import PROFILES
from xpeft.records import record_path, write_record
from xpeft.report import cohort_figures
from xpeft.report.cohort_masks import overlaps, project
from xpeft.report.cohorts import accuracies, chief, cohorts, mask_bits, strays, yardstick
from xpeft.report.figures import FIGURES
from xpeft.report.forms import to_csv
from xpeft.report.html import make_report
from xpeft.report.pairs import nearest_random
from xpeft.report.summary import make_summary, task_name, varied
from xpeft.report.tables import make_tables
from xpeft.report.words import arm_title, score, signed

NEWS = ("food & drink", "sports", "education", "politics", "women", "science & technology",
        "style & beauty", "culture & arts")  # fmt: skip
PEOPLE = 32


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tier with a task, two cohorts (one with many labels) and an ablation."""
    root = tmp_path_factory.mktemp("cohorts") / "results"
    make_tier(root / "small", tasks=("glue/sst2",), arms=("head_only", "single_adapter"), seeds=2)
    people = make_people("huffpost", PEOPLE, NEWS)
    make_cohort(root / "small", "huffpost", people=people, variants=("norm-none",))
    few = ("shared-head", "head_only", "hard-random")
    make_cohort(root / "small", "md_agreement", arms=few, seeds=2)
    write_json(root / "small" / "ledger.json", make_ledger())
    return root


@pytest.fixture(scope="module")
def summary(results: Path) -> dict[str, Any]:
    return make_summary(results / "small" / "records")


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return make_report([results / "small"], figures="figures", tables="report/tables")


def arm_of(summary: dict[str, Any], name: str, task: str = "profiles/huffpost") -> dict[str, Any]:
    (found,) = (a for a in summary["arms"] if a["arm"] == name and task_name(a) == task)
    return found


# -------------------------------------------------------------------------------------- pairs


def test_a_pair_is_paired_by_profile(summary: dict[str, Any]) -> None:
    left, right = arm_of(summary, "hard-random"), arm_of(summary, "shared-adapter")
    (pair,) = (
        pair
        for pair in summary["pairs"]
        if (pair["task"], pair["left"], pair["right"])
        == ("huffpost", "hard-random", "shared-adapter")
    )
    gaps = np.array(left["profiles"]["accuracy"]) - np.array(right["profiles"]["accuracy"])
    kept = varied(left["profiles"])
    assert 0 < len(kept) < PEOPLE
    assert pair["all"]["profiles"] == PEOPLE
    assert pair["headline"]["profiles"] == len(kept)
    assert pair["all"]["mean"] == pytest.approx(gaps.mean())
    assert pair["headline"]["mean"] == pytest.approx(gaps[:, kept].mean())
    each = np.round(gaps[:, kept].mean(axis=0), 12)
    found = pair["headline"]
    assert [found[name] for name in ("wins", "ties", "losses")] == [
        int((each > 0).sum()),
        int((each == 0).sum()),
        int((each < 0).sum()),
    ]
    both = stats.paired_profiles({"": gaps[:, kept]}, {"": np.zeros_like(gaps[:, kept])})
    assert both is not None
    assert found["low_both"] == pytest.approx(both.low)
    assert found["low"] < found["mean"] < found["high"]


def test_the_pairs_that_matter_are_there_and_no_others(summary: dict[str, Any]) -> None:
    kinds: dict[str, set[tuple[str, str | None]]] = {}
    for pair in summary["pairs"]:
        if pair["task"] == "huffpost":
            kinds.setdefault(pair["kind"], set()).add((pair["left"], pair["right"]))
    masked = {"hard-random", "soft-random", "hard-warm"}
    plain = set(COHORT_ARMS) - masked
    shared = {"shared-head", "shared-adapter"}
    assert kinds["usual"] == {(arm, None) for arm in COHORT_ARMS}
    assert kinds["yardstick"] == {(arm, other) for arm in masked for other in plain}
    assert kinds["bank"] == {("hard-warm", "hard-random")}
    assert kinds["personal"] == {(arm, other) for arm in plain - shared for other in shared}


def test_only_shared_seeds_and_equal_profiles_are_paired(tmp_path: Path) -> None:
    people, others = make_people("huffpost", 12), make_people("other", 12)
    make_cohort(tmp_path, arms=("shared-head", "head_only"), people=people, seeds=1)
    make_cohort(tmp_path, arms=("hard-random",), people=people, seeds=3)
    make_cohort(tmp_path, arms=("soft-random",), people=others, seeds=1)
    summary = make_summary(tmp_path / "records")
    found = [pair for pair in summary["pairs"] if pair["kind"] == "yardstick"]
    assert {(pair["left"], tuple(pair["seeds"])) for pair in found} == {("hard-random", (0,))}
    assert [arm["arm"] for arm in strays(summary["arms"])] == ["soft-random"]
    assert "soft-random" not in {
        arm["arm"] for arm in cohorts(summary["arms"])["profiles/huffpost"]
    }


def test_arms_with_no_profile_of_the_headline_have_no_headline(tmp_path: Path) -> None:
    people = make_people("huffpost", 12)
    people["top_share"] = [1.0] * 12
    make_cohort(tmp_path / "small", arms=("shared-head", "hard-random"), people=people, seeds=1)
    summary = make_summary(tmp_path / "small" / "records")
    assert {pair["headline"] for pair in summary["pairs"]} == {None}
    assert all(pair["all"] for pair in summary["pairs"])
    page = make_report([tmp_path / "small"])
    assert "The headline is over 0 of them" in page


def test_an_ablation_of_a_cohort_changes_the_arm_like_it(summary: dict[str, Any]) -> None:
    arm = arm_of(summary, "hard-random-norm-none")
    assert arm["changes"]["arm"] == "hard-random"
    assert arm["base"] == "none"
    assert not any(arm["arm"] in (p["left"], p["right"]) for p in summary["pairs"])


def test_arms_on_cohorts_have_no_yardsticks_of_tasks(summary: dict[str, Any]) -> None:
    assert all(not arm["versus"] for arm in summary["arms"] if arm["suite"] == "profiles")
    assert any(arm["versus"] for arm in summary["arms"] if arm["suite"] == "glue")


def test_the_chief_arm_is_chosen_by_what_it_is(summary: dict[str, Any]) -> None:
    arms = cohorts(summary["arms"])["profiles/huffpost"]
    assert [chief(arms)["arm"], chief(arms, "random")["arm"]] == ["hard-warm", "hard-random"]
    assert yardstick(arms)["arm"] == "shared-adapter"
    assert nearest_random(chief(arms), arms)["arm"] == "hard-random"
    worse = copy.deepcopy(arms)
    for arm in worse:
        arm["profiles"]["accuracy"] = [[0.0] * PEOPLE for _ in arm["seeds"]]
    assert chief(worse)["arm"] == "hard-warm"
    assert chief([]) is None and yardstick([]) is None


def test_titles_tell_arms_apart(summary: dict[str, Any]) -> None:
    titles = [arm_title(arm) for arm in cohorts(summary["arms"])["profiles/huffpost"]]
    assert len(set(titles)) == len(COHORT_ARMS)
    assert titles[0] == "one head for all"
    assert "hard masks, N=40, k=20, warm bank, shared head, own bias" in titles
    fields = {"method": "head_only", "mask": None, "bank": None, "n": None, "k": None,
              "variant": "", "scope": "profile"}  # fmt: skip
    for base, head, expected in (
        ("none", "private", "head only"),
        ("head", "private", "own head on the donors' head"),
        ("adapter", "shared+bias", "own bias on the donors' adapter"),
    ):
        assert arm_title(fields | {"base": base, "head": head}) == expected
    adapter = fields | {"method": "single_adapter", "base": "adapter", "head": "shared"}
    assert arm_title(adapter) == "adapter from the donors', shared head"


# -------------------------------------------------------------------------------------- masks


def test_masks_come_back_as_bits(summary: dict[str, Any]) -> None:
    bits = mask_bits(arm_of(summary, "hard-random"))
    assert bits is not None
    assert bits.shape == (PEOPLE, 2 * BLOCKS, 40)
    assert (bits.sum(axis=2) == 20).all()
    assert mask_bits(arm_of(summary, "soft-random")) is None
    code = np.packbits(bits[0], axis=1, bitorder="little").tobytes().hex()
    assert code == arm_of(summary, "hard-random")["profiles"]["masks"][0]


def test_a_projection_finds_groups_and_says_when_there_are_none() -> None:
    rng = np.random.default_rng(0)
    noise = rng.random((40, 4, 30)) < 0.5
    found = project(noise)
    assert found is not None
    assert found.shares[0] < 1.5 * found.chance
    grouped = noise.copy()
    grouped[20:, :, :15] = True
    grouped[:20, :, :15] = False
    found = project(grouped)
    assert found is not None
    assert found.shares[0] > 3 * found.chance
    first = found.places[:, 0]
    assert (np.sign(first[:20]) == np.sign(first[0])).all()
    assert (np.sign(first[20:]) == -np.sign(first[0])).all()
    assert project(noise[:2]) is None
    assert project(np.ones((5, 2, 8), dtype=bool)) is None


def test_overlap_is_that_of_a_count_by_hand_and_chance_is_k_over_n() -> None:
    rng = np.random.default_rng(1)
    bits = rng.random((6, 3, 20)).argsort(axis=2).argsort(axis=2) < 5
    labels = ["a", "a", "b", "b", "b", "c"]
    found = overlaps(bits, labels)
    assert found is not None
    for row in range(3):
        both = {True: [], False: []}  # type: dict[bool, list[float]]
        for one in range(6):
            for other in range(one):
                share = (bits[one, row] & bits[other, row]).sum() / 5
                both[labels[one] == labels[other]].append(float(share))
        assert found.alike[row] == pytest.approx(np.mean(both[True]))
        assert found.different[row] == pytest.approx(np.mean(both[False]))
    assert found.chance == 0.25
    assert found.pairs == (4, 11)
    assert 0.005 <= found.p_value <= 1
    assert overlaps(bits, ["a"] * 6) is None
    assert overlaps(bits, list("abcdef")) is None


def test_shuffled_labels_say_whether_overlap_follows_labels() -> None:
    rng = np.random.default_rng(2)
    taste = rng.normal(size=(2, 4, 30))
    own = np.arange(30) % 2
    labels = [str(label) for label in own]

    def masks(strength: float) -> Any:
        scores = strength * taste[own] + rng.normal(size=(30, 4, 30))
        return scores.argsort(axis=2).argsort(axis=2) < 15

    apart, none = overlaps(masks(2.0), labels), overlaps(masks(0.0), labels)
    assert apart is not None and none is not None
    assert apart.p_value == pytest.approx(1 / 200)
    assert none.p_value > 0.02


# ------------------------------------------------------------------------------------ figures


def cohort_arms(people: dict[str, Any], cohort: str, folder: Path) -> dict[str, Any]:
    make_cohort(folder, cohort, people=people, seeds=2)
    return make_summary(folder / "records")


def made(summary: dict[str, Any], columns: int) -> dict[str, Figure]:
    arms = summary["arms"]
    return {
        "gains": cohort_figures.gains_figure(arms, columns=columns),
        "warm": cohort_figures.warm_figure(arms, summary["pairs"], columns=columns),
        "map": cohort_figures.map_figure(arms, columns=columns),
        "overlap": cohort_figures.overlap_figure(arms, columns=columns),
        "scale": cohort_figures.scale_figure(make_ledger()),
    }


def texts(figure: Figure) -> list[tuple[str, Any]]:
    """Each visible text of a figure with its box in pixels, ticks outside of the axes left out."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    unused = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for place, tick in enumerate(axis.majorTicks):
                if place >= len(axis.get_majorticklocs()) or not low <= tick.get_loc() <= high:
                    unused |= {tick.label1, tick.label2}
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in unused
    ]


def check_layout(name: str, figure: Figure) -> None:
    found = texts(figure)
    for index, (words, box) in enumerate(found):
        assert box.x0 > -1 and box.x1 < figure.bbox.width + 1, (name, words)
        assert box.y0 > -1 and box.y1 < figure.bbox.height + 1, (name, words)
        for other, second in found[index + 1 :]:
            over_x = min(box.x1, second.x1) - max(box.x0, second.x0)
            over_y = min(box.y1, second.y1) - max(box.y0, second.y0)
            assert over_x < 1 or over_y < 1, (name, words, other)


def test_no_text_overlaps_another_or_leaves_the_figure(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    for columns in (1, 2):
        for name, figure in made(summary, columns).items():
            check_layout(f"{name} {columns}", figure)
    alike = make_people("embedded_authors", 20, alike=True)
    authors = cohort_arms(alike, "embedded_authors", tmp_path)
    for name, figure in made(authors, 1).items():
        check_layout(name, figure)
        for axes in figure.axes:
            assert axes.get_xlabel() and axes.get_ylabel(), name


def test_all_profiles_are_dots(summary: dict[str, Any]) -> None:
    arms = cohorts(summary["arms"])["profiles/huffpost"]
    (axes,) = cohort_figures.gains_figure(arms).axes
    dots = [collection.get_offsets() for collection in axes.collections]
    assert sum(map(len, dots)) == PEOPLE
    gaps = 100 * (accuracies(chief(arms)) - accuracies(yardstick(arms)))
    assert sorted(np.concatenate(dots)[:, 1]) == pytest.approx(sorted(gaps))
    (axes,) = cohort_figures.map_figure(arms).axes
    assert sum(len(collection.get_offsets()) for collection in axes.collections) == PEOPLE
    assert len(axes.collections) == 7, "six labels and the others"


def test_the_bars_of_warm_hold_the_profiles_of_the_headline(summary: dict[str, Any]) -> None:
    arms = cohorts(summary["arms"])["profiles/huffpost"]
    (axes,) = cohort_figures.warm_figure(arms, summary["pairs"]).axes
    kept = varied(arms[0]["profiles"])
    assert sum(bar.get_height() for group in axes.containers for bar in group) == len(kept)


def test_a_running_mean_is_one_of_windows() -> None:
    rows = np.arange(1.0, 51.0)
    at, mean = cohort_figures.running_mean(rows, 2 * rows)
    assert len(at) == len(mean) == 41
    assert mean[0] == pytest.approx(2 * rows[:10].mean())
    assert at[0] == pytest.approx(np.exp(np.log(rows[:10]).mean()))
    order = np.random.default_rng(0).permutation(50)
    again = cohort_figures.running_mean(rows[order], 2 * rows[order])
    assert np.allclose(again, (at, mean))
    at, mean = cohort_figures.running_mean(np.full(4, 32.0), np.arange(4.0))
    assert mean.tolist() == [1.5, 1.5]
    assert len(cohort_figures.running_mean(rows[:3], rows[:3])[1]) == 1


def test_scale_is_what_the_ledger_says() -> None:
    ledger = make_ledger()
    lines = cohort_figures.scale_lines(ledger)
    for entry in ledger["profiles"]:
        count = entry["profiles"]
        assert lines["an adapter each"][2](count) == entry["adapter_bytes"]
        assert lines["hard masks, random bank"][2](count) == entry["random"]["bytes"]
        assert lines["hard masks, stored bank"][2](count) == entry["trained"]["bytes"]
    (axes,) = cohort_figures.scale_figure(ledger).axes
    assert axes.get_xlim()[0] <= min(PROFILES) and axes.get_xlim()[1] >= max(PROFILES)
    even = ledger["bank"]["trained"]["break_even_profiles"]
    assert f"from {even:,} on" in [text.get_text() for text in axes.texts]


def test_without_cohorts_the_figures_say_so(tmp_path: Path) -> None:
    make_tier(tmp_path, tasks=("glue/sst2",), arms=("head_only",), seeds=1)
    summary = make_summary(tmp_path / "records")
    assert summary["pairs"] == []
    for name, figure in made(summary, 1).items():
        if name != "scale":
            assert [t.get_text()[:16] for t in figure.texts] == ["No evidence yet:"], name
            check_layout(name, figure)
    assert {"gains", "warm", "map", "overlap", "scale"} <= set(FIGURES)
    assert ">Profiles</h3>" not in make_report([tmp_path])


def test_banks_of_one_kind_leave_warm_without_evidence(tmp_path: Path) -> None:
    people = make_people("huffpost", 12)
    make_cohort(tmp_path, arms=("shared-head", "hard-random"), people=people, seeds=1)
    summary = make_summary(tmp_path / "records")
    figure = cohort_figures.warm_figure(summary["arms"], summary["pairs"])
    assert figure.texts[0].get_text().startswith("No evidence yet")


# ------------------------------------------------------------------------------------- tables


def test_tables_hold_every_arm_pair_and_profile(summary: dict[str, Any]) -> None:
    tables = make_tables(summary, None, None)
    rows = {
        name: list(csv.DictReader(io.StringIO(to_csv(tables[name]))))
        for name in ("cohorts", "comparisons", "profiles", "scores", "gaps")
    }
    assert len(rows["cohorts"]) == len(COHORT_ARMS) + 3
    first = rows["cohorts"][0]
    arm = arm_of(summary, first["arm"], f"profiles/{first['task']}")
    assert float(first["mean"]) == arm["over_seeds"]["mean"]
    assert float(first["usual"]) == pytest.approx(np.mean(arm["profiles"]["usual"]))
    assert len(rows["comparisons"]) == sum(
        (pair["headline"] is not None) + 1 for pair in summary["pairs"]
    )
    assert len(rows["profiles"]) == PEOPLE * len(COHORT_ARMS) + 40 * 3
    one = next(row for row in rows["profiles"] if row["arm"] == "hard-random")
    place = arm_of(summary, "hard-random")["profiles"]["id"].index(one["profile"])
    each = [seed[place] for seed in arm_of(summary, "hard-random")["profiles"]["accuracy"]]
    assert json.loads(one["accuracy"]) == each
    assert re.fullmatch("[0-9a-f]{16}", one["profile"])
    for name in ("scores", "gaps"):
        assert {row["suite"] for row in rows[name]} == {"glue"}, name


# --------------------------------------------------------------------------------------- page


def section(page: str) -> str:
    start = page.index(">Profiles</h3>")
    return page[start : page.index(">Ablations</h3>", start)]


def test_the_page_shows_every_arm_and_links_it(summary: dict[str, Any], page: str) -> None:
    part = section(page)
    for task in ("profiles/huffpost", "profiles/md_agreement"):
        for arm in cohorts(summary["arms"])[task]:
            link = f'href="#a-small-{task.replace("/", "-")}-{arm["arm"]}">'
            assert f"{link}{score(arm['over_seeds']['mean'])}</a>" in part
            assert link[6:-2].replace("#", 'id="') + '"' in page
    found = next(p for p in summary["pairs"] if p["kind"] == "bank")["headline"]
    assert f">{signed(100 * found['mean'])}</a>" in part
    assert f"{found['wins']} / {found['ties']} / {found['losses']}" in part


def test_all_profiles_are_on_the_page_by_id_alone(summary: dict[str, Any], page: str) -> None:
    part = section(page)
    ids = arm_of(summary, "hard-random")["profiles"]["id"]
    assert all(part.count(f"<code>{name}</code>") == 1 for name in ids)
    left_out = re.findall(r'<tr class="reference"><th scope="row"><code>(\w+)<', part)
    kept = varied(arm_of(summary, "hard-random")["profiles"])
    assert {ids[i] for i in range(PEOPLE) if i not in kept} <= set(left_out)
    assert not {ids[i] for i in kept} & set(left_out)


def test_sections_of_tasks_leave_cohorts_out(page: str) -> None:
    start = page.index(">Results</h3>")
    tasks = page[start : page.index(">Profiles</h3>")]
    assert "SST-2" in tasks
    assert "HuffPost" not in tasks and "MD-Agreement" not in tasks
    assert "norm-none" in page[page.index(">Ablations</h3>") :]


def test_the_page_says_how_rows_were_split_and_who_donors_are(page: str) -> None:
    part = section(page)
    huffpost, md = part.split('<section class="task"')[1:]
    assert "The last texts of each profile" in huffpost
    assert "held out for everybody" in md
    assert "folds" in huffpost
    assert "folds" not in md, "no arm there stands on donors"


def test_long_lists_of_profiles_are_hashes_in_the_page(page: str) -> None:
    record = make_cohort_record(make_people("huffpost", PEOPLE, NEWS))
    part = page[page.index('<h2 id="records">') :]
    assert record["result"]["profiles"]["masks"][0] not in part
    assert f"{PEOPLE} values, in the record" in part
    assert json.dumps(record["result"]["profiles"]["correct"]) in part.replace("&#34;", '"')


def test_a_cohort_with_a_known_best_says_it(tmp_path: Path) -> None:
    people = make_people("embedded_authors", 12, alike=True)
    make_cohort(
        tmp_path / "quick", "embedded_authors", tier="quick", people=people, seeds=1,
        arms=("shared-head", "hard-random"),
    )  # fmt: skip
    page = make_report([tmp_path / "quick"])
    assert "generated authors" in page
    assert ">Results</h3>" not in page, "there are no tasks in this tier"
    row = page[page.index(">best possible</th>") :][:300]
    assert ">95.0</a>" in row


def test_values_of_cohorts_are_escaped(tmp_path: Path) -> None:
    people = make_people("huffpost", 12, ("<script>alert(1)</script>", "R&B"))
    for arm in ("shared-head", "hard-random"):
        record = make_cohort_record(people, arm)
        write_record(tmp_path / "small" / "records" / record_path(record["cell"]), record)
    page = make_report([tmp_path / "small"])
    assert "<script>alert" not in page
    assert "R&amp;B" in page
