"""One Prefect task a stage: options, progress, artifact, event."""
