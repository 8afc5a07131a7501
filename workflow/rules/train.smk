# All seeds of a job. What it needs to resume stands in the folder `work`, which is no output:
# Snakemake removes the outputs of a job that did not finish.
rule train:
    input:
        job=f"{PLAN.root}/jobs/{{suite}}/{{task}}/{{arm}}.json",
        meta=f"{PLAN.root}/data/{{suite}}/{{task}}/meta.json",
        train=f"{PLAN.root}/data/{{suite}}/{{task}}/train.parquet",
        validation=f"{PLAN.root}/data/{{suite}}/{{task}}/validation.parquet",
        bank=PLAN.bank,
    output:
        records=expand(
            f"{PLAN.root}/records/{{{{suite}}}}/{{{{task}}}}/{{{{arm}}}}/seed{{seed}}.json",
            seed=PLAN.config["seeds"],
        ),
        tuning=f"{PLAN.root}/tuning/{{suite}}/{{task}}/{{arm}}.json",
    log:
        f"{PLAN.root}/logs/train/{{suite}}/{{task}}/{{arm}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/train/{{suite}}/{{task}}/{{arm}}.tsv"
    wildcard_constraints:
        suite="(?!profiles/)[^/]+",  # see cohorts.smk
    priority: 1  # before `train_more`, which has use of the tuning
    conda:
        "../../environment.yml"
    threads: PLAN.config["threads"]
    resources:
        mem_mb=PLAN.memory("train"),
        runtime=PLAN.minutes("train"),
        gpu=PLAN.gpus,
    params:
        data=subpath(input.meta, parent=True),
        records=lambda wildcards, output: Path(output.records[0]).parent,
        bank=PLAN.bank_argument,
        tuning=lambda wildcards, output: output.tuning,
        seeds="",  # those of the job
        work=f"{PLAN.root}/work/{{suite}}/{{task}}/{{arm}}",
        device=PLAN.config["device"],
    shell:
        "xpeft train --job {input.job:q} {params.seeds} --data {params.data:q}"
        " --out {params.records:q} --tuning {params.tuning:q} {params.bank} --work {params.work:q}"
        " --device {params.device} 2>&1 | tee {log:q}"


# Further seeds of some arms. No seed has a part in the training of another, so these are what they
# would be among the first ones. What tuning chose is read where it is known, and else found again;
# it is no input, for then the first seeds would be trained again where only their records are kept.
use rule train as train_more with:
    output:
        records=expand(
            f"{PLAN.root}/records/{{{{suite}}}}/{{{{task}}}}/{{{{arm}}}}/seed{{seed}}.json",
            seed=PLAN.more[0],
        ),
    log:
        f"{PLAN.root}/logs/train_more/{{suite}}/{{task}}/{{arm}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/train_more/{{suite}}/{{task}}/{{arm}}.tsv"
    wildcard_constraints:
        suite="(?!profiles/)[^/]+",
        arm=PLAN.more[1],
    priority: 0
    resources:
        mem_mb=PLAN.memory("train_more"),
        runtime=PLAN.minutes("train_more"),
        gpu=PLAN.gpus,
    params:
        data=subpath(input.meta, parent=True),
        records=lambda wildcards, output: Path(output.records[0]).parent,
        bank=PLAN.bank_argument,
        tuning=f"{PLAN.root}/tuning/{{suite}}/{{task}}/{{arm}}.json",
        seeds="--seeds " + " ".join(map(str, PLAN.more[0])),
        work=f"{PLAN.root}/work_more/{{suite}}/{{task}}/{{arm}}",
        device=PLAN.config["device"],
