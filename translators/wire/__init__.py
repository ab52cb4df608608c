"""The three wires: Structs named as each specification names them, and their codecs. No wire knows another."""
