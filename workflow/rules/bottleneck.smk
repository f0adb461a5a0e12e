# Small networks that learn a generated task: does their information compress?


rule bottleneck:
    output:
        information="<study>/bottleneck/settings/{setting}/information.parquet",
        training="<study>/bottleneck/settings/{setting}/training.parquet",
    log:
        "<study>/logs/bottleneck/{setting}.log",
    benchmark:
        "<study>/benchmarks/bottleneck/{setting}.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code_hash("bottleneck"),
        config=slice_of("bottleneck"),
        out=subpath(output.training, parent=True),
    shell:
        "lmri bottleneck --config {params.config:q} --setting {wildcards.setting}"
        " --out {params.out} > {log} 2>&1"


rule bottleneck_summary:
    input:
        expand(
            "<study>/bottleneck/settings/{setting}/{table}.parquet",
            setting=STUDY.bottleneck.settings,
            table=["information", "training"],
        ),
    output:
        directory("<study>/bottleneck/summary"),
    log:
        "<study>/logs/bottleneck_summary.log",
    benchmark:
        "<study>/benchmarks/bottleneck_summary.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code_hash("bottleneck_summary"),
        config=slice_of("bottleneck_summary"),
        settings=settings_folder,
    shell:
        "lmri bottleneck-summary --config {params.config:q} --settings {params.settings}"
        " --out {output} > {log} 2>&1"
