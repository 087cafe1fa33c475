//! Shows a manager of your own and the proof that it is right: scratch directories that are empty
//! for every user, put to the laws of the test-kit by `cargo test --example custom_manager`.

use std::path::PathBuf;
use std::{fs, io};

use poolyard::{Context, Manager, Pool};

/// Makes directories below one that exists.
struct Scratch {
    root: PathBuf,
}

/// Removed when it is dropped, however it ends; a manager whose resources do so needs no `destroy`.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // Somebody else may have removed it: then there is nothing to do.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Manager for Scratch {
    /// The tenant: nobody is ever given a directory that another tenant has used.
    type Key = String;
    type Resource = Directory;
    type Error = io::Error;

    async fn create(&self, tenant: &String, cx: &Context) -> io::Result<Directory> {
        let directory = self.root.join(format!("{tenant}-{}", cx.id().as_u64()));
        fs::create_dir(&directory)?;
        Ok(Directory(directory))
    }

    /// Runs after each lease, off every caller's path. An error destroys the directory.
    async fn recycle(&self, _: &String, directory: &mut Directory, _: &Context) -> io::Result<()> {
        for entry in fs::read_dir(&directory.0)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    async fn health_check(&self, _: &String, directory: &mut Directory, _: &Context) -> io::Result<()> {
        fs::read_dir(&directory.0).map(drop)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::temp_dir().join(format!("poolyard-scratch-{}", std::process::id()));
    fs::create_dir(&root)?;
    let pool = Pool::builder(Scratch { root: root.clone() }).max_total(8).build()?;
    for job in 1..=3 {
        let directory = pool.acquire(&"red".to_owned()).await?;
        let found = fs::read_dir(&directory.0)?.count();
        fs::write(directory.0.join("result"), job.to_string())?;
        println!("job {job} found {found} files in {}", directory.0.display());
    }
    println!("{:?}", pool.close(std::time::Duration::from_secs(1)).await);
    Ok(fs::remove_dir(root)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use poolyard_testkit::{Capabilities, Capability, Harness, conformance};

    /// A little world for the laws: what they need to use, dirty, break and count directories.
    struct World(PathBuf);

    impl Harness for World {
        type Manager = Scratch;

        async fn new() -> Self {
            let name = format!("poolyard-world-{:?}-{}", std::time::SystemTime::now(), std::process::id());
            let root = std::env::temp_dir().join(name.replace(' ', ""));
            fs::create_dir(&root).expect("the temporary directory can be written to");
            World(root)
        }
        fn manager(&self) -> Scratch {
            Scratch { root: self.0.clone() }
        }
        fn keys(&self) -> Vec<String> {
            vec!["red".into(), "blue".into()]
        }
        async fn works(&self, tenant: &String, directory: &mut Directory) -> bool {
            let name = directory.0.file_name().unwrap_or_default().to_string_lossy();
            directory.0.is_dir() && name.starts_with(tenant)
        }
        async fn dirty(&self, directory: &mut Directory, mark: u32) {
            fs::write(directory.0.join(mark.to_string()), "").expect("it can be written to");
        }
        async fn is_dirty(&self, directory: &mut Directory, mark: u32) -> bool {
            directory.0.join(mark.to_string()).exists()
        }
        async fn kill(&self, directory: &mut Directory) {
            fs::remove_dir_all(&directory.0).expect("it is there");
        }
        async fn stop(&self, _: &mut Directory) {}
        async fn live(&self) -> usize {
            fs::read_dir(&self.0).map(Iterator::count).unwrap_or(0)
        }
        fn capabilities(&self) -> Capabilities {
            Capabilities { stop: Capability::No("a directory always answers"), ..Capabilities::ALL }
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    conformance!(scratch_directories, World);
}
