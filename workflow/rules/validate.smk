# Re-run the subject without the units of its findings, on trials nothing was selected on. With
# several 'validate.shards' the control draws are scored before, by a job for each.


rule draws:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stimuli=expand("<study>/stimuli/{task}.parquet", task=STUDY.tasks),
        findings="<study>/findings/localise/{subject}",
        dictionary=dictionary_of,
    output:
        "<study>/draws/{subject}/{shard}.parquet",
    log:
        "<study>/logs/draws/{subject}.{shard}.log",
    benchmark:
        "<study>/benchmarks/draws/{subject}.{shard}.tsv"
    threads: 1
    resources:
        mem_mb=with_subject(4000),
        runtime=growing(120),
        gpu=gpus,
    params:
        code=code_hash("draws"),
        config=slice_of("draws"),
        stimuli=stimuli_folder,
    shell:
        "lmri draws --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --stimuli {params.stimuli} --findings {input.findings}"
        " --shard {wildcards.shard} --out {output} > {log} 2>&1"


rule validate:
    input:
        model=ancient("<study>/subjects/{subject}"),
        model_manifest="<study>/subjects/{subject}.manifest.json",
        stimuli=expand("<study>/stimuli/{task}.parquet", task=STUDY.tasks),
        findings="<study>/findings/localise/{subject}",
        plans=["<study>/plans/{subject}"] if STUDY.sparse.finding_plan else [],
        dictionary=dictionary_of,
        draws=(
            expand(
                "<study>/draws/{{subject}}/{shard}.parquet",
                shard=range(STUDY.validate.shards),
            )
            if STUDY.validate.shards > 1
            else []
        ),
        others=expand("<study>/subjects/{other}.manifest.json", other=STUDY.validate.others),
    output:
        arms="<study>/validation/{subject}/arms.parquet",
        transcripts="<study>/validation/{subject}/transcripts.parquet",
        trials="<study>/validation/{subject}/trials.parquet",
        claims="<study>/validation/{subject}/claims.parquet",
        verdicts="<study>/validation/{subject}/verdicts.parquet",
        responses=directory("<study>/validation/{subject}/responses"),
    log:
        "<study>/logs/validate/{subject}.log",
    benchmark:
        "<study>/benchmarks/validate/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=with_subject(4000),
        runtime=growing(120),
        gpu=gpus,
    params:
        code=code_hash("validate"),
        config=slice_of("validate"),
        stimuli=stimuli_folder,
        plans=lambda wildcards, input: f" --plans {input.plans}" if input.plans else "",
        draws=draws_folder,
        subjects=subpath(input.model, parent=True),
        out=subpath(output.verdicts, parent=True),
    shell:
        "lmri validate --config {params.config:q} --subject {wildcards.subject}"
        " --model {input.model} --stimuli {params.stimuli}"
        " --findings {input.findings}{params.plans}{params.draws}"
        " --subjects {params.subjects}"
        " --out {params.out} > {log} 2>&1"
