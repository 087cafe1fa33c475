//! Shows managers that are chosen while the program runs: an erased manager is a manager again, so
//! pools over different ones have one type.
//!
//! `cargo run --example choose_at_runtime -- file` keeps the notes in files; the default is memory.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use poolyard::{Context, ErasedManager, Manager, Pool, Reason};

/// What both managers make: something to write notes to and to read them back from.
trait Notes: Read + Write + Seek + Send {}
impl<T: Read + Write + Seek + Send> Notes for T {}

struct InMemory;

impl Manager for InMemory {
    type Key = ();
    type Resource = Box<dyn Notes>;
    type Error = fmt::Error;

    async fn create(&self, _: &(), _: &Context) -> Result<Box<dyn Notes>, fmt::Error> {
        Ok(Box::new(io::Cursor::new(Vec::new())))
    }
}

struct InFiles;

impl Manager for InFiles {
    type Key = ();
    type Resource = Box<dyn Notes>;
    type Error = io::Error;

    async fn create(&self, _: &(), cx: &Context) -> io::Result<Box<dyn Notes>> {
        let name = format!("poolyard-notes-{}-{}", std::process::id(), cx.id().as_u64());
        let path = std::env::temp_dir().join(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        // The open file is all that is needed; its name can go.
        std::fs::remove_file(&path)?;
        Ok(Box::new(file))
    }

    async fn destroy(&self, _: &(), notes: &mut Box<dyn Notes>, reason: Reason, _: &Context) {
        let length = notes.seek(SeekFrom::End(0)).unwrap_or_default();
        println!("a file of {length} bytes ends: {reason}");
    }
}

/// One type for all backends.
type NotesPool = Pool<ErasedManager<(), Box<dyn Notes>>>;

fn choose(backend: Option<&str>) -> Result<NotesPool, Box<dyn std::error::Error>> {
    let manager = match backend {
        None | Some("memory") => ErasedManager::new(InMemory),
        Some("file") => ErasedManager::new(InFiles),
        Some(other) => return Err(format!("there is no backend {other:?}; take memory or file").into()),
    };
    Ok(Pool::builder(manager).max_total(2).build()?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let backend = std::env::args().nth(1);
    let pool = choose(backend.as_deref())?;

    let mut notes = pool.acquire(&()).await?;
    notes.write_all(b"written through the pool")?;
    notes.rewind()?;
    let mut text = String::new();
    notes.read_to_string(&mut text)?;
    println!("{}: {text}", backend.as_deref().unwrap_or("memory"));
    drop(notes);

    let report = pool.close(std::time::Duration::from_secs(1)).await;
    println!("closed cleanly: {}", report.is_clean());
    Ok(())
}
