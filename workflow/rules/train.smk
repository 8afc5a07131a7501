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
        work=f"{PLAN.root}/work/{{suite}}/{{task}}/{{arm}}",
        device=PLAN.config["device"],
    shell:
        "xpeft train --job {input.job:q} --data {params.data:q} --out {params.records:q}"
        " --tuning {output.tuning:q} {params.bank} --work {params.work:q}"
        " --device {params.device} 2>&1 | tee {log:q}"
