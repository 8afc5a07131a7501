"""The task metrics as a module of the `evaluate` library, loaded from this folder, offline:

    evaluate.load(str(xpeft.evaluate_module.PATH), "glue/mrpc", experiment_id="...")

`evaluate` copies the module into its cache and locks files there by experiment id, so each
process needs an id of its own.
"""

from __future__ import annotations

from pathlib import Path

PATH = Path(__file__).parent
"""What `evaluate.load` takes."""
