"""Commands beside the pipeline's, `fewstep <command> …`: each has a `main` that takes the words after its name."""
