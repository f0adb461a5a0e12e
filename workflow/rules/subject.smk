# A subject is unpacked from the package, trained from its base, or pointed to.


rule subject:
    input:
        base=base_of,
    output:
        model=directory("<study>/subjects/{subject}"),
        manifest=ensure("<study>/subjects/{subject}.manifest.json", non_empty=True),
    log:
        "<study>/logs/subject/{subject}.log",
    benchmark:
        "<study>/benchmarks/subject/{subject}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code_hash("subject"),
        config=slice_of("subject"),
    shell:
        "base='{input.base}';"
        " lmri train --config {params.config:q} --subject {wildcards.subject}"
        ' ${{base:+--base "$base"}}'
        " --out {output.model} --manifest {output.manifest} > {log} 2>&1"
