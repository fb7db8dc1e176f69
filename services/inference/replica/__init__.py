"""One process that serves one version: `python -m services.inference.replica`.

Life of a request here:

    generate ── prompt ──> engine.submit ──> Accepted           (milliseconds)
    engine step ── streams.apply ──> one FrameBatch per gateway ──> publisher
    last update ──> the terminal frame, spans, counters

| file | what |
|---|---|
| `app` | start, ready, drain; a decoder or an encoder by the manifest |
| `settings` | what the node agent passes |
| `version` | the version's manifest, as the node agent handed it over |
| `smoke_test` | repeats what the version gave at import |
| `lease` | the replica's `ReplicaStatus` in KV |
| `memory` | memory in use, compared with the grant |
| `load` | the load report |
| `stall_watch` | says that the engine has stalled |
| `batch_replica` | what replicas with one answer a request have in common |
| `phase_spans` | the trace of such a request |
| `span_attributes` | attributes that the spans of all requests have |
| `generate/` | serves a decoder |
| `encode/` | serves an encoder |
| `infer/` | serves a graph with named tensors |
"""
