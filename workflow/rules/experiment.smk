# Experiments: what is asked of a subject beyond its findings, with claims fixed in code.


rule experiment:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stimuli=expand("<study>/stimuli/{task}.parquet", task=STUDY.tasks),
        findings="<study>/findings/localise/{subject}",
        stores=ancient(
            expand(
                "<study>/recordings/{{subject}}/{task}/{shard}.zarr",
                task=STUDY.tasks,
                shard=range(STUDY.record.shards),
            )
        ),
        manifests=expand(
            "<study>/recordings/{{subject}}/{task}/{shard}.zarr.manifest.json",
            task=STUDY.tasks,
            shard=range(STUDY.record.shards),
        ),
    output:
        directory("<study>/experiments/{subject}/{experiment}"),
    log:
        "<study>/logs/experiment/{subject}.{experiment}.log",
    benchmark:
        "<study>/benchmarks/experiment/{subject}.{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.experiments) or NO_NAME,
    threads: 1
    resources:
        mem_mb=with_subject(4000),
        runtime=growing(120),
        gpu=gpus,
    params:
        code=code_hash("experiment"),
        config=slice_of("experiment"),
        stimuli=stimuli_folder,
        recordings=recordings_folder,
    shell:
        "lmri experiment --config {params.config:q} --subject {wildcards.subject}"
        " --experiment {wildcards.experiment} --model {input.model}"
        " --stimuli {params.stimuli} --recordings {params.recordings}"
        " --findings {input.findings} --out {output} > {log} 2>&1"
