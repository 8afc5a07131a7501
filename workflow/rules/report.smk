rule figures:
    input:
        summary=f"{PLAN.results}/{{tier}}/summary.json",
        ledger=f"{PLAN.results}/{{tier}}/ledger.json",
        claims=f"{PLAN.results}/{{tier}}/claims.json",
    output:
        report(
            directory(f"{PLAN.config['figures']}/{{tier}}"),
            patterns=["{name}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            subcategory="{tier}",
            labels={"figure": "{name}"},
        ),
    log:
        f"{PLAN.results}/{{tier}}/logs/figures.log",
    benchmark:
        f"{PLAN.results}/{{tier}}/benchmarks/figures.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "xpeft figures --summary {input.summary:q} --ledger {input.ledger:q}"
        " --claims {input.claims:q} --out {output:q} 2>&1 | tee {log:q}"


rule tables:
    input:
        summary=f"{PLAN.results}/{{tier}}/summary.json",
        ledger=f"{PLAN.results}/{{tier}}/ledger.json",
        claims=f"{PLAN.results}/{{tier}}/claims.json",
    output:
        report(
            directory(f"{PLAN.config['report']}/tables/{{tier}}"),
            patterns=["{name}.csv"],
            caption="../report/tables.rst",
            category="Tables",
            subcategory="{tier}",
            labels={"table": "{name}"},
        ),
    log:
        f"{PLAN.results}/{{tier}}/logs/tables.log",
    benchmark:
        f"{PLAN.results}/{{tier}}/benchmarks/tables.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "xpeft tables --summary {input.summary:q} --ledger {input.ledger:q}"
        " --claims {input.claims:q} --out {output:q} 2>&1 | tee {log:q}"


rule html:
    input:
        expand(
            f"{PLAN.results}/{{tier}}/{{name}}.json",
            tier=PLAN.tiers,
            name=["summary", "ledger", "claims"],
        ),
        figures=expand(f"{PLAN.config['figures']}/{{tier}}", tier=PLAN.tiers),
        tables=expand(f"{PLAN.config['report']}/tables/{{tier}}", tier=PLAN.tiers),
    output:
        report(
            f"{PLAN.config['report']}/index.html",
            caption="../report/index.rst",
            category="Report",
        ),
    log:
        f"{PLAN.root}/logs/report.log",
    benchmark:
        f"{PLAN.root}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        tiers=expand(f"--tier {PLAN.results}/{{tier}}", tier=PLAN.tiers),
        figures=lambda wildcards, input: Path(input.figures[0]).parent,
        tables=lambda wildcards, input: Path(input.tables[0]).parent,
    shell:
        "xpeft report {params.tiers} --figures {params.figures:q} --tables {params.tables:q}"
        " --out {output:q} 2>&1 | tee {log:q}"
