"""The same graph on Kubeflow Pipelines.

settings: what a cluster gives each step; compile: graph to pipeline file; run_compiled: that file executed on this machine;
submit, schedule: the file sent to a cluster; run_step: what a container starts; training_job: the Trainer step where several
workers train; commands: `tandem kubeflow ...`.
"""
