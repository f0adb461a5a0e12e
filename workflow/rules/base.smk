# First training stage of embedded subjects: one base serves all states of its seed.


rule base:
    output:
        base=directory("<study>/bases/{base_seed}"),
    log:
        "<study>/logs/base/{base_seed}.log",
    benchmark:
        "<study>/benchmarks/base/{base_seed}.tsv"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        code=code_hash("base"),
        config=slice_of("base"),
    shell:
        "lmri train-base --config {params.config:q} --seed {wildcards.base_seed}"
        " --out {output.base} > {log} 2>&1"
