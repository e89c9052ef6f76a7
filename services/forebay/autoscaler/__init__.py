"""Plans how many instances each model has and owns the life of every one."""
