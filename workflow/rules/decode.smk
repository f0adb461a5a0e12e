# Which labels of trials can be read from recorded activity, where, and from which units.


rule decode:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        findings="<study>/findings/localise/{subject}",
        stores=ancient(
            expand(
                "<study>/recordings/{{subject}}/{task}/{shard}.zarr",
                task=STUDY.decoded_tasks,
                shard=range(STUDY.record.shards),
            )
        ),
        manifests=expand(
            "<study>/recordings/{{subject}}/{task}/{shard}.zarr.manifest.json",
            task=STUDY.decoded_tasks,
            shard=range(STUDY.record.shards),
        ),
    output:
        directory("<study>/analyses/decode/{subject}"),
    log:
        "<study>/logs/decode/{subject}.log",
    benchmark:
        "<study>/benchmarks/decode/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        code=code_hash("decode"),
        config=slice_of("decode"),
        recordings=recordings_folder,
    shell:
        "lmri decode --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --recordings {params.recordings}"
        " --findings {input.findings} --out {output} > {log} 2>&1"
