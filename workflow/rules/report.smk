# One page for the whole study; every number in it comes from a file of the study.


rule report:
    input:
        subjects=expand("<study>/subjects/{subject}.manifest.json", subject=STUDY.subjects),
        maps=expand("<study>/maps/{subject}", subject=STUDY.subjects),
        findings=expand("<study>/findings/localise/{subject}", subject=STUDY.subjects),
        group="<study>/group",
        validation=expand(
            "<study>/validation/{subject}/{table}.parquet",
            subject=STUDY.subjects,
            table=["arms", "transcripts", "trials", "claims", "verdicts"],
        ),
        experiments=expand(
            "<study>/experiments/{subject}/{experiment}",
            subject=STUDY.subjects,
            experiment=STUDY.experiments,
        ),
        comparisons="<study>/comparisons.parquet" if STUDY.compared else [],
        sparse=expand(
            "<study>/sparse/{subject}/runs/{table}.parquet",
            subject=STUDY.subjects if STUDY.sparse.policies else [],
            table=["quality", "achieved", "speed", "limits"],
        ),
        survival=expand(
            "<study>/sparse/{subject}/survival.parquet",
            subject=STUDY.subjects if STUDY.tested_tasks else [],
        ),
        information=expand(
            "<study>/analyses/information/{subject}",
            subject=STUDY.subjects if STUDY.informed_tasks else [],
        ),
        decode=expand(
            "<study>/analyses/decode/{subject}",
            subject=STUDY.subjects if STUDY.decoded_tasks else [],
        ),
        encode=expand(
            "<study>/analyses/encode/{subject}",
            subject=STUDY.subjects if STUDY.encoded_tasks else [],
        ),
        dynamics=expand("<study>/analyses/dynamics/{series}", series=STUDY.followed_series),
        connect=expand(
            "<study>/analyses/connect/{subject}",
            subject=STUDY.subjects if STUDY.connected_tasks else [],
        ),
        align="<study>/analyses/align" if STUDY.aligned_tasks else [],
        bottleneck="<study>/bottleneck/summary" if STUDY.bottleneck.settings else [],
    output:
        page="<study>/report/index.html",
        files=directory("<study>/report/files"),
        contrasts=directory("<study>/report/contrasts"),
        pages=directory("<study>/report/pages"),
        verdicts="<study>/verdicts.parquet",
    log:
        "<study>/logs/report.log",
    benchmark:
        "<study>/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        code=code_hash("report"),
        config=slice_of("report"),
        study=subpath(output.verdicts, parent=True),
        out=subpath(output.page, parent=True),
    shell:
        "lmri report --config {params.config:q} --study {params.study}"
        " --out {params.out} > {log} 2>&1"
