"""The schema of Kubeflow Trainer's TrainJob, from its custom resource definition (Apache-2.0, see the file)."""
