"""Sound as an encoder of speech reads it.

| file | what |
|---|---|
| `log_mel` | samples to a log-mel spectrogram, as Whisper was trained |
"""
