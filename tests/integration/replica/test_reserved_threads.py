"""Threads that a replica has for itself wait for one another actively; those that it shares sleep."""

from pathlib import Path

import onnxruntime as ort
import pytest

from devtools.convert import convert_gguf
from services.inference.engine.decoder import Span
from services.inference.replica.generate.model import load_model
from services.inference.runtime import session
from shared.contracts.scheduler import ReplicaAssignment
from shared.contracts.serving import ReplicaOptions
from tests.support.models.small_model import write_small_gguf


@pytest.mark.parametrize("reserved", [True, False])
def test_only_reserved_threads_spin_and_never_after_a_run(tmp_path: Path, monkeypatch, reserved: bool):
    opened: list[ort.SessionOptions] = []

    make = session.session_options

    def watched(*args, **kwargs) -> ort.SessionOptions:
        opened.append(make(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(session, "session_options", watched)
    manifest = convert_gguf(write_small_gguf(tmp_path / "small.gguf"), tmp_path / "version")
    opened.clear()
    options = ReplicaOptions(slots=2, max_len=32, threads=2 if reserved else 0)
    assignment = ReplicaAssignment.EXAMPLE.model_copy(update={"options": options, "device": "cpu"})
    model = load_model(tmp_path / "version", manifest, assignment, threads=2)
    try:
        (used,) = opened
        assert used.get_session_config_entry("session.intra_op.allow_spinning") == str(int(reserved))
        if reserved:
            assert used.get_session_config_entry("session.force_spinning_stop") == "1"
            assert int(used.get_session_config_entry("session.intra_op.spin_duration_us")) <= 50
        assert model.decoder.compute([Span(0, 0, [5, 6, 7])]).shape == (1, manifest.the_decoder.vocab_size)
    finally:
        model.decoder.close()
