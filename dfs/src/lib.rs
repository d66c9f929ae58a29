//! The chunk store: chunk servers over object_store, and a client that verifies every byte.
