# From a config to report/index.html; every rule is one verb of `xpeft`.
#
#   snakemake --cores 2                                   the quick tier
#   snakemake --cores 2 --configfile config/small.yaml    another one
#   snakemake --cores all --profile slurm                 the paper tier on a cluster
#
# Targets: all (the report), report, records (training only), missing (the jobs without all of
# their records, where records came with the repository and what they were made from did not).
import sys
from pathlib import Path

from snakemake.utils import min_version

from xpeft.errors import XpeftError
from xpeft.estimate import plan_line
from xpeft.workflow import Plan, put_on_path

min_version("9.0")


# Snakemake would merge the default file into one that the command line names.
if "tier" not in config:

    configfile: f"{workflow.basedir}/config/quick.yaml"


put_on_path()
try:
    PLAN = Plan.make(
        config, where=", ".join(map(str, workflow.configfiles)) or "--config"
    )
except XpeftError as error:
    print(f"xpeft: error: {error}", file=sys.stderr)
    sys.exit(2)


report: "workflow/report/workflow.rst"


onstart:
    print(plan_line(PLAN), file=sys.stderr)


# Slurm ends a job by SIGTERM to all its processes. Were the shell to die of it, all else would be
# killed at once; so shell and `tee` wait for `xpeft`, which has a handler and writes a checkpoint.
# The prefix takes the place of Snakemake's own, which is strict; what `tee` ends with is no verdict.
shell.prefix("set -euo pipefail; trap '' TERM; ")


wildcard_constraints:
    tier="|".join(PLAN.tiers),
    suite="[^/]+",
    task="[^/]+",
    arm="[^/]+",
    cohort="[^/]+",
    part="[^/]+",
    fold="[0-9]+",
    n="[0-9]+",


localrules:
    all,
    report,
    records,
    missing,
    job,
    cells,
    data,
    html,


rule all:
    default_target: True
    input:
        f"{PLAN.config['report']}/index.html",


rule report:
    input:
        rules.all.input,


rule records:
    input:
        PLAN.records(PLAN.tier),


rule missing:
    input:
        PLAN.missing,


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"


if PLAN.pools:

    include: "workflow/rules/banks.smk"


if PLAN.grid.jobs:

    include: "workflow/rules/cohorts.smk"


include: "workflow/rules/ledger.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"
