"""What every plug-in of a family must do, as test classes to subclass."""
