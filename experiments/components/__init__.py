"""What specs name: learners, networks, optimizers, schedules, tasks."""
