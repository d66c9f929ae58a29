//! The quorate command.
