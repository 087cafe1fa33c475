//! Shows what a resource of your manager costs: an interpreter process, cold and warm.

use std::error::Error;

use poolyard_examples::interpreter::{Interpreters, Language};
use poolyard_testkit::measure;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let language = Language::best().ok_or("neither python3 nor sh is installed; install one of them")?;
    println!("{}\n{}", language.program(), measure(Interpreters, &language, 20).await?);
    Ok(())
}
