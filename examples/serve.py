"""From texts to a served store: two authors, a profile each, one file, one mixed batch.

    python examples/serve.py [--out FOLDER] [--encoder FOLDER_OF_AN_ENCODER] [--epochs 12]

Under a minute on two cores. The texts are embedded ones, and the two authors judge the same texts
with opposite tastes; put your own in place of `texts_of_authors`. docs/serving.md explains each
step.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from xpeft import ProfileStore, XPeft, load_encoder, random_bank
from xpeft.bank import save_bank
from xpeft.data.embedded_authors import EmbeddedAuthors, read_embedded_authors
from xpeft.fitting import EncodedFeatures, ProfileData, fit, schedule_of
from xpeft.heads import init_head
from xpeft.ids import profile_id
from xpeft.job import EncoderSpec, MethodSpec, TrainingSpec
from xpeft.methods import BankMasks
from xpeft.profiles import ProfileFormat, Profiles

LABELS = ("negative", "positive")


def texts_of_authors() -> list[tuple[str, str, int, bool]]:
    """(author, text, label, whether it is for testing) a row."""
    settings = EmbeddedAuthors(authors=4, train_rows=120, taste_share=0.8, noise=0.0)
    rows = read_embedded_authors(settings).judgements
    pair = ("author 0", "author 1")
    return [(row.name, row.text, row.label, bool(row.test)) for row in rows if row.name in pair]


def main() -> None:
    """Train, store, serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="folder for bank and store; else a temporary one")
    parser.add_argument("--encoder", help="folder of an encoder; else all-MiniLM-L6-v2")
    parser.add_argument("--epochs", type=float, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run(Path(options.out or temporary), options.encoder, options.epochs)


def run(out: Path, folder: str | None, epochs: float) -> None:
    """The example itself, in `out`."""
    # Data: each author's rows, as positions in one table of tokens.
    rows = texts_of_authors()
    train = [row for row in rows if not row[3]]
    authors = sorted({row[0] for row in rows})

    # The encoder, and a bank of 100 random adapters that no profile owns.
    source = EncoderSpec() if folder is None else EncoderSpec("own", "local", path=folder)
    encoder = load_encoder(source)
    bank = random_bank(encoder.layers, 100, encoder.width, encoder.width // 16, seed=0)
    save_bank(bank, out / "bank")

    # Training: all authors together, each for itself.
    spec = MethodSpec(mask="hard", k=50, center=True)
    training = TrainingSpec(epochs=epochs, batch_size=16, lr=1.0, head_lr=0.01)
    method = BankMasks(encoder, bank, spec)
    tokens = encoder.tokenize([text for _, text, _, _ in train])
    labels = np.array([label for _, _, label, _ in train])
    owned = [np.array([i for i, row in enumerate(train) if row[0] == name]) for name in authors]
    profiles = [ProfileData(mine, labels[mine], seed=i) for i, mine in enumerate(owned)]
    seeds = range(len(authors))
    fitted = fit(
        EncodedFeatures(encoder, method),
        {**method.init(seeds), **init_head(seeds, len(LABELS), encoder)},
        tokens,
        profiles,
        [schedule_of(training, len(mine)) for mine in owned],
        batch_size=training.batch_size,
        rows_at_once=32,
    )

    # The store: one file, bound to this encoder and this bank.
    ids = [profile_id("example", name) for name in authors]
    form = ProfileFormat.of(encoder, bank, spec, LABELS)
    with ProfileStore.create(out / "authors.xps", form) as store:
        store.put_many(Profiles.from_parameters(ids, fitted.parameters, method), authors)
        print(f"{len(store)} profiles of {form.payload_bytes} bytes in {store.path.name}")

    # Serving: each text with its author's profile, all in one batch.
    with XPeft.load(encoder, out / "bank", out / "authors.xps") as served:
        test = [row for row in rows if row[3]]
        texts, truth = [row[1] for row in test], np.array([row[2] for row in test])
        own = [served.store.id_of(row[0]) for row in test]
        other = [ids[1 - authors.index(row[0])] for row in test]
        print(f"with their own profiles:     {(served.predict(texts, own) == truth).mean():.0%}")
        print(f"with each other's profiles:  {(served.predict(texts, other) == truth).mean():.0%}")
        for author, identity in zip(authors, ids, strict=True):
            (name,) = served.labels(["On Monday the curry at the mill was spicy."], identity)
            print(f'"spicy" is {name} for {author}')
        print(served.cache_info())


if __name__ == "__main__":
    main()
