"""sentence-transformers as a child process that `embeddings.py` times: needs torch, so it has a Python of its own.

    PYTHON benchmarks/embeddings_peer.py MODEL_DIRECTORY THREADS

Reads one JSON object per line, `{"texts": [...], "batch": 32}`, and answers `{"seconds": …, "embeddings": …}`;
embeddings only if `"keep": true`.
"""

import json
import sys
import time

import sentence_transformers
import torch


def main() -> None:
    """Serve until standard input ends."""
    torch.set_num_threads(int(sys.argv[2]))
    model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu")
    versions = {"sentence_transformers": sentence_transformers.__version__, "torch": torch.__version__}
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        begun = time.perf_counter()
        vectors = model.encode(asked["texts"], batch_size=asked["batch"], show_progress_bar=False)
        answer = {"seconds": time.perf_counter() - begun}
        if asked.get("keep"):
            answer["embeddings"] = vectors.tolist()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
