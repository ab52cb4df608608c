"""The three wires: Structs named as each specification names them, and their codecs. Nothing here knows another wire."""
