"""What a run will take, before it is begun: tokens, operations, memory, disk, hours and money."""
