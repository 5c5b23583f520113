//! Generates `src/generated` from the contract. Run by `make proto`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = root.join("proto");
    let descriptors = protox::compile([proto.join("hrun/agent/v1/agent.proto")], [&proto])?;
    tonic_prost_build::configure()
        .out_dir(root.join("src/generated"))
        .build_server(true)
        .build_transport(false)
        .bytes(".hrun.agent.v1.OutputChunk.data")
        .bytes(".hrun.agent.v1.InputChunk.data")
        .bytes(".hrun.agent.v1.InjectedFile.content")
        .compile_fds(descriptors)?;
    Ok(())
}
