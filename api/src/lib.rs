//! Byzantine-fault-tolerant MapReduce: write a Mapper and a Reducer, and get answers that hold although some machines lie.
