# Cohorts: hundreds of profiles are a handful of jobs. The targets of a fold are trained in
# parts; each part holds all seeds.
rule cohort_data:
    input:
        PLAN.cohort_files,
    output:
        meta=f"{PLAN.root}/data/profiles/{{cohort}}/meta.json",
        sheet=f"{PLAN.root}/data/profiles/{{cohort}}/sheet.tsv",
        rows=f"{PLAN.root}/data/profiles/{{cohort}}/rows.parquet",
        texts=f"{PLAN.root}/data/profiles/{{cohort}}/items.parquet",
    log:
        f"{PLAN.root}/logs/data/profiles/{{cohort}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/data/profiles/{{cohort}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        arguments=PLAN.cohort_arguments,
        folder=subpath(output.meta, parent=True),
    shell:
        "xpeft data {params.arguments} --out {params.folder:q} 2>&1 | tee {log:q}"


rule donors:
    input:
        job=f"{PLAN.root}/jobs/donors/{{cohort}}/donors.json",
        meta=f"{PLAN.root}/data/profiles/{{cohort}}/meta.json",
        rows=f"{PLAN.root}/data/profiles/{{cohort}}/rows.parquet",
    output:
        directory(f"{PLAN.root}/donors/{{cohort}}/fold{{fold}}"),
    log:
        f"{PLAN.root}/logs/donors/{{cohort}}/fold{{fold}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/donors/{{cohort}}/fold{{fold}}.tsv"
    conda:
        "../../environment.yml"
    threads: PLAN.config["threads"]
    resources:
        mem_mb=PLAN.memory("donors"),
        runtime=PLAN.minutes("donors"),
        gpu=PLAN.gpus,
    params:
        data=subpath(input.meta, parent=True),
        work=f"{PLAN.root}/work/donors/{{cohort}}/fold{{fold}}",
        device=PLAN.config["device"],
    shell:
        "xpeft cohort donors --job {input.job:q} --data {params.data:q} --fold {wildcards.fold}"
        " --out {output:q} --work {params.work:q} --device {params.device} 2>&1 | tee {log:q}"


rule cohort_tune:
    input:
        job=f"{PLAN.root}/jobs/profiles/{{cohort}}/{{arm}}.json",
        meta=f"{PLAN.root}/data/profiles/{{cohort}}/meta.json",
        rows=f"{PLAN.root}/data/profiles/{{cohort}}/rows.parquet",
        donors=PLAN.donors,
    output:
        f"{PLAN.root}/tuning/profiles/{{cohort}}/{{arm}}.json",
    log:
        f"{PLAN.root}/logs/tune/{{cohort}}/{{arm}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/tune/{{cohort}}/{{arm}}.tsv"
    conda:
        "../../environment.yml"
    threads: PLAN.config["threads"]
    resources:
        mem_mb=PLAN.memory("cohort_tune"),
        runtime=PLAN.minutes("cohort_tune"),
        gpu=PLAN.gpus,
    params:
        data=subpath(input.meta, parent=True),
        donors=PLAN.donors_argument,
        work=f"{PLAN.root}/work/tune/{{cohort}}/{{arm}}",
        device=PLAN.config["device"],
    shell:
        "xpeft cohort tune --job {input.job:q} --data {params.data:q} {params.donors}"
        " --out {output:q} --work {params.work:q} --device {params.device} 2>&1 | tee {log:q}"


rule cohort_part:
    input:
        job=f"{PLAN.root}/jobs/profiles/{{cohort}}/{{arm}}.json",
        meta=f"{PLAN.root}/data/profiles/{{cohort}}/meta.json",
        rows=f"{PLAN.root}/data/profiles/{{cohort}}/rows.parquet",
        tuning=PLAN.cohort_tuning,
        donors=PLAN.donors,
    output:
        f"{PLAN.root}/parts/profiles/{{cohort}}/{{arm}}/{{part}}.json",
    log:
        f"{PLAN.root}/logs/part/{{cohort}}/{{arm}}/{{part}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/part/{{cohort}}/{{arm}}/{{part}}.tsv"
    conda:
        "../../environment.yml"
    threads: PLAN.config["threads"]
    resources:
        mem_mb=PLAN.memory("cohort_part"),
        runtime=PLAN.minutes("cohort_part"),
        gpu=PLAN.gpus,
    params:
        data=subpath(input.meta, parent=True),
        donors=PLAN.donors_argument,
        tuning=PLAN.tuning_argument,
        part=lambda wildcards: wildcards.part.replace("-", "/"),
        work=f"{PLAN.root}/work/part/{{cohort}}/{{arm}}/{{part}}",
        device=PLAN.config["device"],
    shell:
        "xpeft cohort train --job {input.job:q} --data {params.data:q} {params.donors}"
        " {params.tuning} --part {params.part} --out {output:q} --work {params.work:q}"
        " --device {params.device} 2>&1 | tee {log:q}"


rule cohort_records:
    input:
        job=f"{PLAN.root}/jobs/profiles/{{cohort}}/{{arm}}.json",
        meta=f"{PLAN.root}/data/profiles/{{cohort}}/meta.json",
        parts=PLAN.parts,
    output:
        records=expand(
            f"{PLAN.root}/records/profiles/{{{{cohort}}}}/{{{{arm}}}}/seed{{seed}}.json",
            seed=PLAN.cohort_seeds,
        ),
    log:
        f"{PLAN.root}/logs/gather/{{cohort}}/{{arm}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/gather/{{cohort}}/{{arm}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        data=subpath(input.meta, parent=True),
        records=lambda wildcards, output: Path(output.records[0]).parent,
    shell:
        "xpeft cohort gather --job {input.job:q} --data {params.data:q} --out {params.records:q}"
        " {input.parts:q} 2>&1 | tee {log:q}"
