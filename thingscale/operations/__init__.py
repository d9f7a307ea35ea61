"""What the person who runs the platform does with it: management commands, above all other parts."""
