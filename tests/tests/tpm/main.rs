//! Trusted logs in TPMs, from end to end: three replicas with a TPM in software each, set up with the commands that operators use.

mod clusters;
mod commands;

use quorate::exit::Code;

fn under_test() -> quorate_tests::processes::Programs {
    quorate_tests::processes::Programs {
        quorate: env!("CARGO_BIN_EXE_quorate-under-test").into(),
        wordcount: env!("CARGO_BIN_EXE_wordcount-under-test").into(),
        terasort: env!("CARGO_BIN_EXE_terasort-under-test").into(),
    }
}

/// What a command prints when it works.
async fn works(command: std::process::Command) -> String {
    let shown = format!("{command:?}");
    let output = quorate_tests::processes::run(command).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// It fails with this code and the exit code that belongs to it, and says all this.
async fn fails(code: Code, command: std::process::Command, says: &[&str]) {
    let shown = format!("{command:?}");
    let output = quorate_tests::processes::run(command).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code.exit() as i32), "{shown}: {text}");
    assert!(text.contains(&format!("error[{code}]: ")), "{shown} does not fail with {code}: {text}");
    assert!(says.iter().all(|says| text.contains(says)) && !text.contains("panicked"), "{shown}: {says:?}: {text}");
}
