# Which features of stimuli predict the activity of units, and whether the output uses them.


rule encode:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stores=ancient(
            expand(
                "<study>/recordings/{{subject}}/{task}/{shard}.zarr",
                task=STUDY.encoded_tasks,
                shard=range(STUDY.record.shards),
            )
        ),
        manifests=expand(
            "<study>/recordings/{{subject}}/{task}/{shard}.zarr.manifest.json",
            task=STUDY.encoded_tasks,
            shard=range(STUDY.record.shards),
        ),
    output:
        directory("<study>/analyses/encode/{subject}"),
    log:
        "<study>/logs/encode/{subject}.log",
    benchmark:
        "<study>/benchmarks/encode/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=with_subject(4000),
        runtime=growing(120),
        gpu=gpus,
    params:
        code=code_hash("encode"),
        config=slice_of("encode"),
        recordings=recordings_folder,
    shell:
        "lmri encode --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --recordings {params.recordings}"
        " --out {output} > {log} 2>&1"
