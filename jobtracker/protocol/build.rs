//! Compiles the wire messages with a compiler written in Rust, so that nothing but cargo is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/quorate.proto");
    let files = protox::compile(["proto/quorate.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".quorate.v1.Block.data")
        .bytes(".quorate.v1.PutBlock.data")
        .bytes(".quorate.v1.Piece.data")
        .bytes(".quorate.v1.Node.content")
        .compile_fds(files)?;
    Ok(())
}
