//! User code in a child process with limits, and the pipe between it and its tracker.
