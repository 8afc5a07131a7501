rule ledger:
    output:
        f"{PLAN.results}/{{tier}}/ledger.json",
    log:
        f"{PLAN.results}/{{tier}}/logs/ledger.log",
    benchmark:
        f"{PLAN.results}/{{tier}}/benchmarks/ledger.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        arguments=PLAN.ledger_arguments,
    shell:
        "xpeft ledger {params.arguments} --out {output:q} 2>&1 | tee {log:q}"
