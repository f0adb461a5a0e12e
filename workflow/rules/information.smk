# What recorded activity tells of trials, by layer, and how that changes over checkpoints.


rule information:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stores=ancient(
            expand(
                "<study>/recordings/{{subject}}/{task}/{shard}.zarr",
                task=STUDY.informed_tasks,
                shard=range(STUDY.record.shards),
            )
        ),
        manifests=expand(
            "<study>/recordings/{{subject}}/{task}/{shard}.zarr.manifest.json",
            task=STUDY.informed_tasks,
            shard=range(STUDY.record.shards),
        ),
    output:
        directory("<study>/analyses/information/{subject}"),
    log:
        "<study>/logs/information/{subject}.log",
    benchmark:
        "<study>/benchmarks/information/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=with_subject(4000),
        runtime=growing(120),
        gpu=gpus,
    params:
        code=code_hash("information"),
        config=slice_of("information"),
        recordings=recordings_folder,
    shell:
        "lmri information --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --recordings {params.recordings}"
        " --out {output} > {log} 2>&1"


rule dynamics:
    input:
        profiles=lambda wildcards: expand(
            "<study>/analyses/information/{subject}",
            subject=[entry.name for entry in STUDY.series[wildcards.series]],
        ),
        followed=lambda wildcards: [
            f"<study>/{entry.folder.format(subject=member.name)}"
            for entry in STUDY.information.follow
            for member in STUDY.series[wildcards.series]
        ],
        stores=ancient(recordings_of_series("zarr")),
        manifests=recordings_of_series("zarr.manifest.json"),
    output:
        directory("<study>/analyses/dynamics/{series}"),
    log:
        "<study>/logs/dynamics/{series}.log",
    benchmark:
        "<study>/benchmarks/dynamics/{series}.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        code=code_hash("dynamics"),
        config=slice_of("dynamics"),
        profiles=profiles_folder,
        study=subpath(output[0], ancestor=3),
    shell:
        "lmri dynamics --config {params.config:q} --series {wildcards.series}"
        " --profiles {params.profiles} --study {params.study}"
        " --out {output} > {log} 2>&1"
