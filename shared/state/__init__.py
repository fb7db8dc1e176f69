"""Control state as a whole: what lies in all buckets is read, kept in snapshots, backed up, restored and migrated.

| file | what |
|---|---|
| `reading` | all buckets at one moment |
| `migrations` | pure: a document of an earlier format -> of this one |
| `loss` | pure: what a bus no longer has of a snapshot |
| `snapshots` | control state in the artifact store |
| `archive` | a backup's file |
| `references` | the files in the store that control state needs |
| `system` | which system a bus and a store belong to, and whether they fit |
| `prepare` | what the owner of a bus does before services start |
| `backup`, `restore` | everything into one file, and back |

`python -m shared.state` does all of it where there is no `llmos`, as in containers.

Why it is so: [ADR 33](docs/adr/0033-control-state-has-snapshots-in-the-store.md) and
[ADR 34](docs/adr/0034-one-format-number-for-all-state.md).
"""
