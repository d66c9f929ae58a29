//! Makes the text that word counts are measured on, as a file for programs that are not Quorate's.
//!
//! ```text
//! cargo run --release -p quorate-bench --bin zipf-text -- 1GiB text
//! ```

use clap::Parser;
use quorate::{
    amounts::parse_bytes,
    exit::{Failure, report},
};
use quorate_bench::text::Text;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Makes text of lines of words that are as frequent as Zipf's law says. The same seed and size give the same bytes
#[derive(Parser)]
#[command(name = "zipf-text", version = quorate::VERSION)]
struct Options {
    /// Length of the text, such as 256MiB
    #[arg(value_parser = parse_bytes)]
    size: u64,
    /// The file to make
    file: PathBuf,
    /// Another seed makes other words
    #[arg(long, value_name = "N", default_value_t = 2026)]
    seed: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    report(make(&options))
}

fn make(options: &Options) -> Result<(), Failure> {
    let wrong = |e: std::io::Error| Failure::io("cannot make", &options.file, &e);
    let mut out = BufWriter::with_capacity(1 << 20, File::create_new(&options.file).map_err(wrong)?);
    Text::new(options.seed).write(options.size, &mut out).and_then(|()| out.flush()).map_err(wrong)
}
