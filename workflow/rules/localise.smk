# All maps of a subject, and the findings they fix before any evaluation trial is run.


rule localise:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stimuli=expand("<study>/stimuli/{task}.parquet", task=STUDY.tasks),
        stores=ancient(expand("<study>/recordings/{{subject}}/{recorded}.zarr", recorded=RECORDED)),
        manifests=expand(
            "<study>/recordings/{{subject}}/{recorded}.zarr.manifest.json",
            recorded=RECORDED,
        ),
        dictionary=dictionary_of,
    output:
        maps=directory("<study>/maps/{subject}"),
        findings=directory("<study>/findings/localise/{subject}"),
    log:
        "<study>/logs/localise/{subject}.log",
    benchmark:
        "<study>/benchmarks/localise/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=with_subject(4000),
        runtime=growing(60),
        gpu=gpus,
    params:
        code=code_hash("localise"),
        config=slice_of("localise"),
        stimuli=stimuli_folder,
        recordings=recordings_folder,
    shell:
        "lmri localise --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --stimuli {params.stimuli}"
        " --recordings {params.recordings} --maps {output.maps}"
        " --findings {output.findings} > {log} 2>&1"
