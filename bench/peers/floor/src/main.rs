//! Word count and terasort by hand: how fast this machine can be when nothing is distributed, replicated or checked.
//!
//! ```text
//! floor wordcount|wordcount-plain|terasort INPUT OUTPUT THREADS
//! ```
//!
//! The input is mapped into memory; the output goes to part files in the folder OUTPUT. `wordcount` is tuned for the machine
//! ([`words`]), `wordcount-plain` is what a careful user of `rayon` and `hashbrown` writes ([`plain`]). Trusted input only.

use std::{env, error::Error, fs, fs::File, process::ExitCode};

mod count;
mod plain;
mod sort;
#[cfg(target_arch = "x86_64")]
mod words;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [job, input, output, threads] = arguments[..] else {
        eprintln!("usage: floor wordcount|wordcount-plain|terasort INPUT OUTPUT THREADS");
        return ExitCode::from(2);
    };
    match run(job, input, output, threads) {
        // Giving gigabytes back page by page would be the slowest part: the system does it at once.
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("{job}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(job: &str, input: &str, output: &str, threads: &str) -> Result<(), Box<dyn Error>> {
    let threads: usize = threads.parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    fs::create_dir_all(output)?;
    // SAFETY: nobody writes to the input of a benchmark while it runs.
    let input: &'static [u8] = Box::leak(Box::new(unsafe { memmap2::Mmap::map(&File::open(input)?)? }));
    match job {
        "wordcount" => count::run(input, output, tuned()?)?,
        "wordcount-plain" => count::run(input, output, plain::count)?,
        "terasort" => sort::run(input, output, threads)?,
        _ => return Err("there is no such job".into()),
    }
    Ok(())
}

/// The tuned count, where the processor can do it.
#[cfg(target_arch = "x86_64")]
fn tuned() -> Result<count::Count, &'static str> {
    if words::supported() { Ok(words::count) } else { Err("needs a processor with AVX2 and BMI") }
}

#[cfg(not(target_arch = "x86_64"))]
fn tuned() -> Result<count::Count, &'static str> {
    Err("is tuned for x86-64 alone")
}
