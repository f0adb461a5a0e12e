# Subjects of one base, compared by the difference of what their units do to the same trials.


rule compare:
    input:
        subjects=ancient(expand("<study>/subjects/{subject}", subject=STUDY.subjects)),
        stimuli=expand("<study>/stimuli/{task}.parquet", task=STUDY.tasks),
        findings=expand("<study>/findings/localise/{subject}", subject=STUDY.subjects),
        trials=expand("<study>/validation/{subject}/trials.parquet", subject=STUDY.subjects),
    output:
        "<study>/comparisons.parquet",
    log:
        "<study>/logs/compare.log",
    benchmark:
        "<study>/benchmarks/compare.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code_hash("compare"),
        config=slice_of("compare"),
        study=subpath(output[0], parent=True),
    shell:
        "lmri compare --config {params.config:q} --study {params.study}"
        " --out {output} > {log} 2>&1"
