//! The namespace: paths, manifests and the places of chunks, as a pure state machine.
