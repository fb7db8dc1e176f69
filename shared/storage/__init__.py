"""The artifact store: immutable blobs and manifests in a directory or in S3."""
