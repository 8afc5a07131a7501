# A job's file holds all its settings. They are parameters of the rule, so a changed setting
# writes again the files of the jobs that have it, and only those.
rule job:
    output:
        f"{PLAN.root}/jobs/{{suite}}/{{task}}/{{arm}}.json",
    log:
        f"{PLAN.root}/logs/job/{{suite}}/{{task}}/{{arm}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/job/{{suite}}/{{task}}/{{arm}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        job=PLAN.job_text,
    shell:
        "xpeft cells --job {params.job:q} --out {output:q} 2>&1 | tee {log:q}"


# The seeds of each job: what the summary expects to find, and nothing else.
rule cells:
    output:
        f"{PLAN.root}/cells.json",
    log:
        f"{PLAN.root}/logs/cells.log",
    benchmark:
        f"{PLAN.root}/benchmarks/cells.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        index=PLAN.index,
    shell:
        "xpeft cells --index {params.index:q} --out {output:q} 2>&1 | tee {log:q}"


rule data:
    input:
        PLAN.data_files,
    output:
        meta=f"{PLAN.root}/data/{{suite}}/{{task}}/meta.json",
        train=f"{PLAN.root}/data/{{suite}}/{{task}}/train.parquet",
        validation=f"{PLAN.root}/data/{{suite}}/{{task}}/validation.parquet",
    log:
        f"{PLAN.root}/logs/data/{{suite}}/{{task}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/data/{{suite}}/{{task}}.tsv"
    wildcard_constraints:
        suite="(?!profiles/)[^/]+",  # see cohorts.smk
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        arguments=PLAN.data_arguments,
        folder=subpath(output.meta, parent=True),
    shell:
        "xpeft data {params.arguments} --out {params.folder:q} 2>&1 | tee {log:q}"
