//! The rules SMR-1 to SMR-17, one test or more for each, by their names.

mod admission;
mod bounds;
mod checkpoints;
mod clients;
mod fixture;
mod keeping;
mod properties;
mod reading;
mod recovery;
mod time;
mod views;
mod voting;
mod witnessed;
mod world;
