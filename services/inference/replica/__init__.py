"""One process that serves one version: `python -m services.inference.replica`.

Life of a request here:

    generate ── prompt ──> engine.submit ──> Accepted           (milliseconds)
    engine step ── streams.apply ──> one FrameBatch per gateway ──> publisher
    last update ──> the terminal frame, spans, counters

| file | what |
|---|---|
| `app` | start, ready, drain: wires the rest |
| `version_files` | manifest and blobs from the store into a folder |
| `lease` | the replica's `ReplicaStatus` in KV |
| `prompt` | a request's prompt as token ids |
| `generate` | takes requests: checks, opens the stream, submits |
| `frames` | pure: updates of a step to frames; one terminal frame per request |
| `serving` | what connects the engine, the frames and the bus; cancels what nobody waits for |
| `gateways` | pure: which gateways went silent |
| `publisher` | frames to the bus, in order |
| `load` | the load report |
| `spans` | the trace of a finished request |
"""
