"""`/v1/fine_tuning/jobs`: OpenAI's fine-tuning jobs, which are LLMOS's training jobs.

| module | content |
|---|---|
| `api` | answers the requests |
| `base` | which version a model's name means |
| `creation` | a request becomes a job: files, names, recipe, resources |
| `events` | what happened in a job, as OpenAI's events and checkpoints |
| `names` | the name that a result gets (pure) |
| `recipe` | hyperparameters as a recipe (pure) |
| `requests` | the body of a request |
| `resources` | what training takes of a node (pure) |
| `routes` | the routes of this package and of `files` |
| `views` | a job as OpenAI's object (pure) |
"""
