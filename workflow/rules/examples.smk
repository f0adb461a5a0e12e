# Which tokens the units of maps and findings respond to, from what was recorded of them.


rule examples:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        maps="<study>/maps/{subject}",
        findings="<study>/findings/localise/{subject}",
        stores=ancient(
            expand(
                "<study>/recordings/{{subject}}/{task}/{shard}.zarr",
                task=STUDY.shown_tasks,
                shard=range(STUDY.record.shards),
            )
        ),
        manifests=expand(
            "<study>/recordings/{{subject}}/{task}/{shard}.zarr.manifest.json",
            task=STUDY.shown_tasks,
            shard=range(STUDY.record.shards),
        ),
    output:
        directory("<study>/analyses/examples/{subject}"),
    log:
        "<study>/logs/examples/{subject}.log",
    benchmark:
        "<study>/benchmarks/examples/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        code=code_hash("examples"),
        config=slice_of("examples"),
        recordings=recordings_folder,
    shell:
        "lmri examples --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --recordings {params.recordings}"
        " --maps {input.maps} --findings {input.findings} --out {output} > {log} 2>&1"
