"""What specs of the commands name beside learners and networks: tasks, schedules."""
