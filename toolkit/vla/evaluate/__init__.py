"""How good it is: the metrics of the field as pure functions of arrays."""
