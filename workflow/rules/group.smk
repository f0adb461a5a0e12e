# What the maps of all subjects have in common: replication, overlap, second level, heads.


rule group:
    input:
        maps=expand("<study>/maps/{subject}", subject=STUDY.subjects),
        findings=expand("<study>/findings/localise/{subject}", subject=STUDY.subjects),
    output:
        directory("<study>/group"),
    log:
        "<study>/logs/group.log",
    benchmark:
        "<study>/benchmarks/group.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code_hash("group"),
        config=slice_of("group"),
        maps=maps_folder,
        findings=findings_folder,
    shell:
        "lmri group --config {params.config:q} --maps {params.maps}"
        " --findings {params.findings} --out {output} > {log} 2>&1"
