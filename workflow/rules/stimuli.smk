# The trials of a task, with their carriers and splits.


rule stimuli:
    input:
        table=table_of,
    output:
        stimuli="<study>/stimuli/{task}.parquet",
    log:
        "<study>/logs/stimuli/{task}.log",
    benchmark:
        "<study>/benchmarks/stimuli/{task}.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code_hash("stimuli"),
        config=slice_of("stimuli"),
    shell:
        "lmri stimuli --config {params.config:q} --task {wildcards.task}"
        " --out {output.stimuli} > {log} 2>&1"
