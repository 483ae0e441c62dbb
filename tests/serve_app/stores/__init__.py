"""Contract of the stores: one suite for every implementation of `deployments.jobs.store`."""
