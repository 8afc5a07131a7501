# Methods on the same validation rows: the records hold no labels, the prepared data do.
rule examples:
    input:
        PLAN.examples_inputs,
        cells=f"{PLAN.root}/cells.json",
    output:
        f"{PLAN.root}/examples.json",
    log:
        f"{PLAN.root}/logs/examples.log",
    benchmark:
        f"{PLAN.root}/benchmarks/examples.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        root=subpath(output[0], parent=True),
    shell:
        "xpeft examples --records {params.root:q}/records --data {params.root:q}/data"
        " --cells {input.cells:q} --out {output:q} 2>&1 | tee {log:q}"


# `tier` is this run's, or that of the committed evidence.
rule summary:
    input:
        PLAN.summary_inputs,
    output:
        f"{PLAN.results}/{{tier}}/summary.json",
    log:
        f"{PLAN.results}/{{tier}}/logs/summary.log",
    benchmark:
        f"{PLAN.results}/{{tier}}/benchmarks/summary.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        arguments=PLAN.summary_arguments,
    shell:
        "xpeft summary {params.arguments} --out {output:q} 2>&1 | tee {log:q}"


rule claims:
    input:
        summary=f"{PLAN.results}/{{tier}}/summary.json",
        ledger=f"{PLAN.results}/{{tier}}/ledger.json",
    output:
        f"{PLAN.results}/{{tier}}/claims.json",
    log:
        f"{PLAN.results}/{{tier}}/logs/claims.log",
    benchmark:
        f"{PLAN.results}/{{tier}}/benchmarks/claims.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "xpeft claims --summary {input.summary:q} --ledger {input.ledger:q} --out {output:q}"
        " 2>&1 | tee {log:q}"
