# Trained banks: a pool of adapters for each source task, and for each target a bank that takes
# them in turn, without those that were tuned on the target.
rule pool:
    input:
        job=f"{PLAN.root}/jobs/pools/{{suite}}/{{task}}.json",
        meta=f"{PLAN.root}/data/{{suite}}/{{task}}/meta.json",
        train=f"{PLAN.root}/data/{{suite}}/{{task}}/train.parquet",
    output:
        directory(f"{PLAN.root}/pools/{{suite}}/{{task}}"),
    log:
        f"{PLAN.root}/logs/pools/{{suite}}/{{task}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/pools/{{suite}}/{{task}}.tsv"
    conda:
        "../../environment.yml"
    threads: PLAN.config["threads"]
    resources:
        mem_mb=PLAN.memory("pool"),
        runtime=PLAN.minutes("pool"),
        gpu=PLAN.gpus,
    params:
        data=subpath(input.meta, parent=True),
        work=f"{PLAN.root}/work/pools/{{suite}}/{{task}}",
        device=PLAN.config["device"],
    shell:
        "xpeft bank pool --job {input.job:q} --data {params.data:q} --out {output:q}"
        " --work {params.work:q} --device {params.device} 2>&1 | tee {log:q}"


rule trained_bank:
    input:
        PLAN.pool_folders,
    output:
        directory(f"{PLAN.root}/banks/{{suite}}/{{task}}/n{{n}}"),
    log:
        f"{PLAN.root}/logs/banks/{{suite}}/{{task}}/n{{n}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/banks/{{suite}}/{{task}}/n{{n}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=PLAN.memory("trained_bank"),
        runtime=PLAN.minutes("trained_bank"),
    shell:
        "xpeft bank trained {input:q} --n {wildcards.n} --out {output:q} 2>&1 | tee {log:q}"
