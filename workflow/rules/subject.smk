# A subject is unpacked from the package, trained from its base, or pointed to. That of a hub is
# fetched and hashed where Snakemake itself runs, the one place that must have a network.


rule fetch:
    output:
        model=directory("<study>/subjects/{subject}"),
        manifest=ensure("<study>/subjects/{subject}.manifest.json", non_empty=True),
    log:
        "<study>/logs/subject/{subject}.log",
    benchmark:
        "<study>/benchmarks/subject/{subject}.tsv"
    wildcard_constraints:
        subject=one_of(STUDY.fetched) or NO_NAME,
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(240),
    params:
        code=code_hash("subject"),
        config=slice_of("subject"),
    shell:
        "lmri train --config {params.config:q} --subject {wildcards.subject}"
        " --out {output.model} --manifest {output.manifest} > {log} 2>&1"


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
    wildcard_constraints:
        subject=one_of(name for name in STUDY.subjects if name not in STUDY.fetched) or NO_NAME,
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code_hash("subject"),
        config=slice_of("subject"),
    shell:
        "base='{input.base}';"
        " lmri train --config {params.config:q} --subject {wildcards.subject}"
        ' ${{base:+--base "$base"}}'
        " --out {output.model} --manifest {output.manifest} > {log} 2>&1"
