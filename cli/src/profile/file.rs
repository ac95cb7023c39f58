//! The file of profiles: `highwater/profiles.toml` where the user keeps configuration.

use std::env;
use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::Profiles;
use crate::failure::Failure;

/// A file that is longer is none of profiles, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads the profiles; none where there is no file.
pub(crate) fn read() -> Result<Profiles, Failure> {
    match path() {
        Some(path) => read_from(&path),
        None => Ok(Profiles::default()),
    }
}

/// Replaces the file by one with these profiles, at once or not at all; nobody but the user may read it.
pub(crate) fn write(profiles: &Profiles) -> Result<(), Failure> {
    let path = path().ok_or_else(|| {
        Failure::new("cannot keep profiles", "there is no place for them")
            .remedy("name one: XDG_CONFIG_HOME or HOME in the environment")
    })?;
    let failed = |error: io::Error| Failure::new(format!("cannot write {}", path.display()), error);
    let text = profiles.to_text().map_err(io::Error::other);
    let written = text.and_then(|text| replace(&path, text.as_bytes()));
    written.map_err(failed)
}

fn path() -> Option<PathBuf> {
    path_by(|name| env::var_os(name))
}

fn path_by(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // A path that is not absolute counts as none, as the XDG base directory specification has it.
    let directory = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let configuration =
        directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")));
    Some(configuration?.join("highwater/profiles.toml"))
}

fn read_from(path: &Path) -> Result<Profiles, Failure> {
    let what = || format!("cannot read profiles from {}", path.display());
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => {
            let why = format!("it is longer than {FILE_BYTES_MAX} bytes");
            Err(Failure::new(what(), why))
        }
        Ok(_) => Profiles::parse(&text)
            .map_err(|why| Failure::new(what(), why).remedy("mend the file, or remove it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Profiles::default()),
        Err(error) => Err(Failure::new(what(), error)),
    }
}

/// A reader sees the old file or the new one. Temporary files are readable by their owner only, and so is what becomes
/// of them.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_where_the_user_keeps_configuration() {
        let path = |config: &str, home: &str| {
            path_by(|name| match name {
                "XDG_CONFIG_HOME" => Some(config.into()),
                _ => Some(home.into()),
            })
        };
        assert_eq!(path("/c", "/h"), Some("/c/highwater/profiles.toml".into()));
        for config in ["", "relative"] {
            let expected = "/h/.config/highwater/profiles.toml";
            assert_eq!(path(config, "/h"), Some(expected.into()));
        }
        assert_eq!(path("", ""), None);
    }

    #[test]
    fn a_written_file_is_read_again_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("highwater/profiles.toml");
        assert_eq!(read_from(&path).unwrap(), Profiles::default());
        for name in ["a", "b"] {
            let profiles = Profiles {
                current: Some(name.into()),
                ..Profiles::default()
            };
            replace(&path, profiles.to_text().unwrap().as_bytes()).unwrap();
            assert_eq!(read_from(&path).unwrap(), profiles);
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_is_none_is_not_taken_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("profiles.toml");
        std::fs::write(&path, "current: prod\n").unwrap();
        let failure = read_from(&path).unwrap_err().to_string();
        assert!(failure.contains("profiles.toml: line 1: "), "{failure}");
        assert!(read_from(directory.path()).is_err());
    }
}
