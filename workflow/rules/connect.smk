# How units of a subject work together.


rule connect:
    input:
        stores=ancient(
            expand(
                "<study>/recordings/{{subject}}/{task}/{shard}.zarr",
                task=STUDY.connected_tasks,
                shard=range(STUDY.record.shards),
            )
        ),
        manifests=expand(
            "<study>/recordings/{{subject}}/{task}/{shard}.zarr.manifest.json",
            task=STUDY.connected_tasks,
            shard=range(STUDY.record.shards),
        ),
    output:
        directory("<study>/analyses/connect/{subject}"),
    log:
        "<study>/logs/connect/{subject}.log",
    benchmark:
        "<study>/benchmarks/connect/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        code=code_hash("connect"),
        config=slice_of("connect"),
        recordings=recordings_folder,
    shell:
        "lmri connect --config {params.config:q} --subject {wildcards.subject}"
        " --recordings {params.recordings} --out {output} > {log} 2>&1"
