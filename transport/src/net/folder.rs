//! The operator's own pages: a folder that is read once, when the server starts.
//!
//! Reading beforehand is what keeps a disk from ever making a shard wait, and a request from ever naming a file that
//! was not meant: what is not in memory does not exist. A page that changes is seen at the next start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::wire::pages::{Page, Site};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one file. A client that asks and does not read makes the server hold so much.
    pub file_bytes_max: u64,
    /// Bytes of all files.
    pub folder_bytes_max: u64,
}

/// Most files, and most folders within folders, that are read. (guess)
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 32;

/// Reads a folder. An error names the file and what is wrong with it: a server that starts serves all there is.
///
/// Names that begin with a dot are left out, they are not meant to be seen. So are links that lead out of the folder.
pub fn load(folder: &Path, bounds: Bounds) -> Result<Site, String> {
    let root = fs::canonicalize(folder).map_err(|error| named(folder, &error))?;
    let mut reader = Reader {
        root: root.clone(),
        bounds,
        site: Site::default(),
        files: 0,
        bytes: 0,
    };
    reader.read_folder(&root, "/", 0)?;
    Ok(reader.site)
}

struct Reader {
    root: PathBuf,
    bounds: Bounds,
    site: Site,
    files: usize,
    bytes: u64,
}

impl Reader {
    fn read_folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!(
                "{}: more than {DEPTH_MAX} folders deep",
                folder.display()
            ));
        }
        for entry in fs::read_dir(folder).map_err(|error| named(folder, &error))? {
            let entry = entry.map_err(|error| named(folder, &error))?;
            let name = entry.file_name();
            // What is no text has no address.
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let file =
                fs::canonicalize(entry.path()).map_err(|error| named(&entry.path(), &error))?;
            if !file.starts_with(&self.root) {
                tracing::warn!(
                    "{} leads out of the folder and is not served",
                    entry.path().display()
                );
                continue;
            }
            let kind = fs::metadata(&file).map_err(|error| named(&file, &error))?;
            if kind.is_dir() {
                self.read_folder(&file, &format!("{prefix}{name}/"), depth + 1)?;
            } else if kind.is_file() {
                self.read_file(&file, kind.len(), prefix, name)?;
            }
        }
        Ok(())
    }

    fn read_file(
        &mut self,
        file: &Path,
        bytes: u64,
        prefix: &str,
        name: &str,
    ) -> Result<(), String> {
        self.files += 1;
        self.bytes += bytes;
        if self.files > FILES_MAX {
            return Err(format!(
                "{}: more than {FILES_MAX} files",
                self.root.display()
            ));
        }
        let Bounds {
            file_bytes_max,
            folder_bytes_max,
        } = self.bounds;
        if bytes > file_bytes_max {
            return Err(format!(
                "{}: {bytes} bytes, and one file may have {file_bytes_max}",
                file.display()
            ));
        }
        if self.bytes > folder_bytes_max {
            return Err(format!(
                "{}: more than {folder_bytes_max} bytes in all",
                self.root.display()
            ));
        }
        let content = fs::read(file).map_err(|error| named(file, &error))?;
        let content_type = content_type(name);
        if name == "index.html" {
            self.site.add(Page::new(
                prefix.into(),
                content_type.clone(),
                content.clone(),
            ));
        }
        self.site
            .add(Page::new(format!("{prefix}{name}"), content_type, content));
        Ok(())
    }
}

/// By the name's end. Text is taken to be UTF-8.
fn content_type(name: &str) -> String {
    let mime = mime_guess::from_path(name).first_or_octet_stream();
    let essence = mime.essence_str();
    if essence.starts_with("text/") {
        format!("{essence}; charset=utf-8")
    } else {
        essence.into()
    }
}

fn named(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        file_bytes_max: 100,
        folder_bytes_max: 150,
    };

    #[test]
    fn a_folder_is_read_with_what_is_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("sub")).unwrap();
        for (name, content) in [
            ("index.html", "<p>"),
            ("sub/index.html", "<b>"),
            ("sub/a b.js", "1"),
            (".env", "s"),
        ] {
            fs::write(root.join(name), content).unwrap();
        }
        let site = load(root, BOUNDS).unwrap();
        let mut paths: Vec<&str> = site.pages().map(|page| &*page.path).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "/",
                "/index.html",
                "/sub/",
                "/sub/a b.js",
                "/sub/index.html"
            ]
        );
        let page = site.find("/sub/a b.js").unwrap();
        assert_eq!(
            (&*page.content_type, &*page.content),
            ("text/javascript; charset=utf-8", &b"1"[..])
        );
    }

    #[test]
    fn links_that_lead_out_are_left_out_and_others_are_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.txt"), "s").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("a.txt"), "a").unwrap();
        std::os::unix::fs::symlink("a.txt", root.join("b.txt")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("out")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.txt"), root.join("c.txt")).unwrap();
        let site = load(root, BOUNDS).unwrap();
        assert_eq!(
            site.find("/b.txt").map(|page| &*page.content),
            Some(&b"a"[..])
        );
        assert_eq!(site.pages().count(), 2);
        // A circle ends.
        std::os::unix::fs::symlink(".", root.join("again")).unwrap();
        assert!(load(root, BOUNDS).unwrap_err().contains("deep"));
    }

    #[test]
    fn too_much_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "a".repeat(101)).unwrap();
        assert!(
            load(folder.path(), BOUNDS)
                .unwrap_err()
                .contains("a.txt: 101 bytes")
        );
        fs::write(folder.path().join("a.txt"), "a".repeat(80)).unwrap();
        fs::write(folder.path().join("b.txt"), "a".repeat(80)).unwrap();
        assert!(
            load(folder.path(), BOUNDS)
                .unwrap_err()
                .contains("more than 150 bytes in all")
        );
        assert!(
            load(&folder.path().join("absent"), BOUNDS)
                .unwrap_err()
                .contains("absent")
        );
    }
}
