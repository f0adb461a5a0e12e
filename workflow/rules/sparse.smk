# What a subject can do without: policies calibrated on recorded trials, run on unseen ones.


rule calibrate:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stores=ancient(expand("<study>/recordings/{{subject}}/{recorded}.zarr", recorded=RECORDED)),
        manifests=expand(
            "<study>/recordings/{{subject}}/{recorded}.zarr.manifest.json",
            recorded=RECORDED,
        ),
    output:
        directory("<study>/plans/{subject}"),
    log:
        "<study>/logs/calibrate/{subject}.log",
    benchmark:
        "<study>/benchmarks/calibrate/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code_hash("calibrate"),
        config=slice_of("calibrate"),
        recordings=recordings_folder,
    shell:
        "lmri calibrate --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --recordings {params.recordings}"
        " --out {output} > {log} 2>&1"


rule sparse_run:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stimuli=expand("<study>/stimuli/{task}.parquet", task=STUDY.tasks),
        plans="<study>/plans/{subject}",
    output:
        quality="<study>/sparse/{subject}/quality.parquet",
        achieved="<study>/sparse/{subject}/achieved.parquet",
        speed="<study>/sparse/{subject}/speed.parquet",
    log:
        "<study>/logs/sparse_run/{subject}.log",
    benchmark:
        "<study>/benchmarks/sparse_run/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        code=code_hash("sparse_run"),
        config=slice_of("sparse_run"),
        stimuli=stimuli_folder,
        out=subpath(output.quality, parent=True),
    shell:
        "lmri sparse-run --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --stimuli {params.stimuli} --plans {input.plans}"
        " --out {params.out} > {log} 2>&1"
