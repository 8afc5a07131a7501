"""Which arms of a cohort stand for what, and plain values of its profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xpeft.codec import MaskFormat
from xpeft.data.cohort_specs import COHORTS
from xpeft.report.pairs import is_masked
from xpeft.report.summary import VARIED, Arm, main_grid, on_cohorts, task_name, task_names, varied
from xpeft.report.words import counted

Json = dict[str, Any]
Floats = npt.NDArray[np.float64]

SPLITS = {
    "item": "A share of the texts, chosen by hash, is held out for everybody: no profile trains on "
    "a text that any profile is scored on.",
    "time": "The last texts of each profile are its test rows; it trains on the earlier ones.",
    "given": "Test rows are those that the data set gives.",
}
"""What divides the rows of a cohort, by `CohortSpec.split`."""

DONORS = (
    "What donors leave (a head, an adapter, a warm bank) is made of the training rows of other "
    "people alone: profiles are divided into folds, and the targets of a fold meet the donors of "
    "the other folds."
)


def cohorts(arms: Sequence[Arm]) -> dict[str, list[Arm]]:
    """The arms of each cohort, ablations left out.

    Arms of other profiles than most are left out too: they stand on another sheet, and nothing
    about them can be set beside the others profile by profile.
    """
    main = main_grid(on_cohorts(arms))
    found = {}
    for task in task_names(main):
        same = [arm for arm in main if task_name(arm) == task]
        sheets = [arm["profiles"]["id"] for arm in same]
        usual = max(sheets, key=sheets.count)
        found[task] = [arm for arm in same if arm["profiles"]["id"] == usual]
    return found


def strays(arms: Sequence[Arm]) -> list[Arm]:
    """The arms that `cohorts` leaves out for their profiles."""
    kept = [arm for group in cohorts(arms).values() for arm in group]
    return [arm for arm in main_grid(on_cohorts(arms)) if arm not in kept]


def accuracies(arm: Arm) -> Floats:
    """Accuracy of each profile, mean over seeds: [P]."""
    found: Floats = np.array(arm["profiles"]["accuracy"], dtype=np.float64).mean(axis=0)
    return found


def row_counts(arm: Arm) -> npt.NDArray[np.int64]:
    """Rows of each profile, those it trained on and those it was scored on: [P].

    Training rows alone may all be at the cap of a config.
    """
    profiles = arm["profiles"]
    found: npt.NDArray[np.int64] = np.array([profiles["train"], profiles["test"]]).sum(axis=0)
    return found


def headline_mean(arm: Arm) -> float | None:
    """Mean accuracy over the profiles of the headline and over seeds."""
    kept = varied(arm["profiles"])
    return float(accuracies(arm)[kept].mean()) if kept else None


def chief(arms: Sequence[Arm], bank: str | None = None) -> Arm | None:
    """The arm with masks that stands for the method: chosen by what it is, never by its score.

    Hard before soft masks, a warm before a random bank, the smallest bank, the fewest bytes.

    Args:
        arms: of one cohort.
        bank: only masks over this kind of bank.
    """
    masked = [arm for arm in arms if is_masked(arm) and bank in (None, arm["bank"])]
    order = {"warm": 0, "random": 1}

    def place(arm: Arm) -> tuple[Any, ...]:
        return (
            arm["mask"] != "hard",
            order.get(arm["bank"], 2),
            arm["n"],
            arm["bytes"]["total"],
            arm["arm"],
        )

    return min(masked, key=place, default=None)


def yardstick(arms: Sequence[Arm]) -> Arm | None:
    """What a profile would get without masks of its own: one model for all, of it the adapter.

    Without such a model: the donors' models with a bias of one's own, then a head of one's own.
    """
    plain = [arm for arm in arms if not is_masked(arm)]

    def place(arm: Arm) -> tuple[Any, ...]:
        return (
            arm["scope"] != "cohort",
            arm["head"] != "shared+bias",
            arm["method"] != ("single_adapter" if arm["scope"] == "cohort" else "head_only"),
            arm["bytes"]["total"],
            arm["arm"],
        )

    return min(plain, key=place, default=None)


def about(task: str, arms: Sequence[Arm]) -> list[str]:
    """What a cohort is, in sentences: profiles, rows, split, donors' rule."""
    profiles = arms[0]["profiles"]
    spec = COHORTS.get(task.split("/")[-1])
    kept = len(varied(profiles))
    count = len(profiles["id"])
    words = [
        f"{counted(count, 'profile')} with {span(profiles['train'])} training and "
        f"{span(profiles['test'])} test rows each.",
        f"The headline is over {kept:,} of them: those whose most frequent training label has "
        f"less than {100 * VARIED:.0f} % of their training rows.",
    ]
    if spec is not None:
        words.append(SPLITS[spec.split])
    if any(arm["bank"] == "warm" or arm["base"] in ("head", "adapter") for arm in arms):
        words.append(DONORS)
    return words


def span(values: Sequence[int]) -> str:
    """`12`, or `12 to 340`."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def mask_bits(arm: Arm) -> npt.NDArray[np.bool_] | None:
    """The hard masks of the first seed, [P, rows, N]: M_A's rows and then M_B's, a row a block.

    None where the records hold none. `rows` is odd only for one mask a block.
    """
    codes = arm["profiles"]["masks"]
    if not codes or not arm["n"]:
        return None
    rows = len(codes[0]) // 2 // -(-arm["n"] // 8)
    form = MaskFormat("bits", rows, arm["n"], k=arm["k"], sides="down")
    raw = np.frombuffer(bytes.fromhex("".join(codes)), dtype=np.uint8)
    down, _ = form.decode_many(raw.reshape(len(codes), -1))
    return None if down is None else down.astype(np.bool_)
