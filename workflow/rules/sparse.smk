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
        mem_mb=with_subject(4000),
        runtime=growing(60),
        gpu=gpus,
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
        quality="<study>/sparse/{subject}/runs/quality.parquet",
        achieved="<study>/sparse/{subject}/runs/achieved.parquet",
        speed="<study>/sparse/{subject}/runs/speed.parquet",
        limits="<study>/sparse/{subject}/runs/limits.parquet",
    log:
        "<study>/logs/sparse_run/{subject}.log",
    benchmark:
        "<study>/benchmarks/sparse_run/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=with_subject(4000),
        runtime=growing(120),
        gpu=gpus,
    params:
        code=code_hash("sparse_run"),
        config=slice_of("sparse_run"),
        stimuli=stimuli_folder,
        out=subpath(output.quality, parent=True),
    shell:
        "lmri sparse-run --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --stimuli {params.stimuli} --plans {input.plans}"
        " --out {params.out} > {log} 2>&1"


rule record_sparse:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stimuli="<study>/stimuli/{task}.parquet",
        plans="<study>/plans/{subject}",
    output:
        store=directory("<study>/sparse/{subject}/recordings/{task}/0.zarr"),
        manifest=ensure(
            "<study>/sparse/{subject}/recordings/{task}/0.zarr.manifest.json",
            non_empty=True,
        ),
    log:
        "<study>/logs/record_sparse/{subject}.{task}.log",
    benchmark:
        "<study>/benchmarks/record_sparse/{subject}.{task}.tsv"
    threads: 1
    resources:
        mem_mb=with_subject(4000),
        runtime=growing(120),
        gpu=gpus,
    params:
        code=code_hash("record_sparse"),
        config=slice_of("record_sparse"),
    shell:
        "lmri record-sparse --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --task {wildcards.task} --stimuli {input.stimuli}"
        " --plans {input.plans} --out {output.store} --manifest {output.manifest}"
        " > {log} 2>&1"


rule survive:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stimuli=expand("<study>/stimuli/{task}.parquet", task=STUDY.tested_tasks),
        maps="<study>/maps/{subject}",
        stores=ancient(
            expand(
                "<study>/sparse/{{subject}}/recordings/{task}/0.zarr",
                task=STUDY.tested_tasks,
            )
        ),
        manifests=expand(
            "<study>/sparse/{{subject}}/recordings/{task}/0.zarr.manifest.json",
            task=STUDY.tested_tasks,
        ),
    output:
        "<study>/sparse/{subject}/survival.parquet",
    log:
        "<study>/logs/survive/{subject}.log",
    benchmark:
        "<study>/benchmarks/survive/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=with_subject(4000),
        runtime=growing(60),
        gpu=gpus,
    params:
        code=code_hash("survive"),
        config=slice_of("survive"),
        stimuli=stimuli_folder,
        recordings=recordings_folder,
    shell:
        "lmri survive --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --stimuli {params.stimuli}"
        " --recordings {params.recordings} --maps {input.maps} --out {output}"
        " > {log} 2>&1"
