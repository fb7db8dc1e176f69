"""One process that serves one version: `python -m services.inference.replica`.

Life of a request here:

    generate ── prompt ──> engine.submit ──> Accepted           (milliseconds)
    engine step ── streams.apply ──> one FrameBatch per gateway ──> publisher
    last update ──> the terminal frame, spans, counters

| file | what |
|---|---|
| `app` | start, ready, drain; a decoder or an encoder by the manifest |
| `decoder`, `encoder` | wire what serves either |
| `settings` | what the node agent passes |
| `version_files` | manifest and blobs from the store into a folder |
| `model` | the folder's files as objects that can compute |
| `lease` | the replica's `ReplicaStatus` in KV |
| `endpoints` | the subjects it listens on |
| `prompt` | a request's prompt as token ids |
| `generate` | takes requests: checks, opens the stream, submits |
| `encoding`, `encoding_spans` | takes an encoder's requests; their traces |
| `frames` | pure: updates of a step to frames; one terminal frame per request |
| `serving` | what connects the engine, the frames and the bus; ends what nobody waits for |
| `gateways` | pure: which gateways went silent |
| `publisher` | frames to the bus, in order |
| `load` | the load report |
| `spans` | the trace of a finished request |
| `background` | tasks that run as long as the replica |
"""
