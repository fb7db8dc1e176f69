"""HTTP/1.1 on connections: llhttp's parser, and a protocol that ignores offers to upgrade, with limits (ADR 20)."""
