# What subjects share whose units do not correspond.


rule align:
    input:
        stores=ancient(
            expand(
                "<study>/recordings/{subject}/{task}/{shard}.zarr",
                subject=STUDY.subjects,
                task=STUDY.aligned_tasks,
                shard=range(STUDY.record.shards),
            )
        ),
        manifests=expand(
            "<study>/recordings/{subject}/{task}/{shard}.zarr.manifest.json",
            subject=STUDY.subjects,
            task=STUDY.aligned_tasks,
            shard=range(STUDY.record.shards),
        ),
    output:
        directory("<study>/analyses/align"),
    log:
        "<study>/logs/align.log",
    benchmark:
        "<study>/benchmarks/align.tsv"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        code=code_hash("align"),
        config=slice_of("align"),
        recordings=all_recordings_folder,
    shell:
        "lmri align --config {params.config:q} --recordings {params.recordings}"
        " --out {output} > {log} 2>&1"
