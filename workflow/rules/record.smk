# One store per subject, task and shard. Consumers take the manifest as the sign of a new recording
# and the store itself as ancient: the time stamp of a folder says nothing about its content.


rule record:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stimuli="<study>/stimuli/{task}.parquet",
    output:
        store=directory("<study>/recordings/{subject}/{task}/{shard}.zarr"),
        manifest=ensure(
            "<study>/recordings/{subject}/{task}/{shard}.zarr.manifest.json",
            non_empty=True,
        ),
    log:
        "<study>/logs/record/{subject}.{task}.{shard}.log",
    benchmark:
        "<study>/benchmarks/record/{subject}.{task}.{shard}.tsv"
    threads: 1
    resources:
        mem_mb=with_subject(4000),
        runtime=growing(60),
        gpu=gpus,
    params:
        code=code_hash("record"),
        config=slice_of("record"),
    shell:
        "lmri record --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --task {wildcards.task} --stimuli {input.stimuli}"
        " --shard {wildcards.shard} --out {output.store} --manifest {output.manifest}"
        " > {log} 2>&1"
