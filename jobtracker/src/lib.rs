//! One job-tracker replica: the ordered log on disk and the gRPC service around the pure state machines.
