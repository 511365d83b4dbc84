//! The definition files below a directory: those whose path matches a glob, in sorted order.
//!
//! Unaware of what is in them.
//!
//! Surprise: symbolic links are followed, so that a directory may be walked through several times, under several paths,
//! each of which may be the one that the pattern asks for. What keeps that finite is said at [`MAX_LINKED_VISITS`].

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use crate::definition::complaint::{Complaint, shown};
use crate::reason::reason;

/// How often a directory is walked through by way of symbolic links. It is never entered below itself, which ends loops;
/// but a few directories with links to each other have more paths without a loop than could be walked in a lifetime.
const MAX_LINKED_VISITS: usize = 8;

/// Directories in which no definitions are looked for.
const SKIPPED: [&str; 2] = [".git", "node_modules"];

/// Where to look for definition files.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// The directory below which they are.
    pub path: PathBuf,
    /// A glob for their paths below it.
    pub pattern: String,
    /// The data directory, which holds whatever tasks print, and is never looked into; it need not exist yet.
    pub data: PathBuf,
}

/// The files that a search found, and what stood in its way.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub files: Vec<PathBuf>,
    pub errors: Vec<Complaint>,
    pub warnings: Vec<Complaint>,
}

/// Which file or directory it is, whatever its path.
pub(crate) type FileId = (u64, u64);

pub(crate) fn file_id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// The regular files below the path that match the pattern, each once, under the first of its paths.
pub(crate) fn find(search: &Search) -> Found {
    let mut found = Found::default();
    let pattern = match Pattern::new(&search.pattern) {
        Ok(pattern) => pattern,
        Err(why) => {
            let message = format!("the pattern `{}` can't be used: {why}", shown(&search.pattern));
            found.errors.push(Complaint::about(&search.path, message));
            return found;
        }
    };
    let base = match fs::metadata(&search.path) {
        Ok(metadata) if metadata.is_dir() => file_id(&metadata),
        Ok(_) => {
            let message = "is not a directory; expected the one below which pipelines are looked for";
            found.errors.push(Complaint::about(&search.path, message));
            return found;
        }
        Err(error) => {
            let message = format!(
                "{}; expected the directory below which pipelines are looked for",
                reason(&error)
            );
            found.errors.push(Complaint::about(&search.path, message));
            return found;
        }
    };
    let mut walk = Walk {
        base: &search.path,
        pattern: &pattern,
        data: fs::metadata(&search.data).ok().map(|metadata| file_id(&metadata)),
        candidates: Vec::new(),
        linked_visits: HashMap::new(),
        warnings: Vec::new(),
    };
    walk.run(base);
    walk.candidates.sort();
    walk.warnings.sort_by(|one, other| one.file.cmp(&other.file));
    let mut seen = HashSet::new();
    for (relative, id) in walk.candidates {
        if seen.insert(id) {
            found.files.push(below(&search.path, &relative));
        }
    }
    found.warnings = walk.warnings;
    found
}

/// The path as messages show it: what is below `.` goes without it.
fn below(base: &Path, relative: &Path) -> PathBuf {
    if relative == Path::new("") {
        base.to_owned()
    } else if base == Path::new(".") {
        relative.to_owned()
    } else {
        base.join(relative)
    }
}

struct Pattern {
    glob: String,
    /// The leading directories that have to have these very names.
    directories: Vec<String>,
    /// Directories that a matching path can be inside of, at most.
    max_depth: usize,
}

impl Pattern {
    fn new(glob: &str) -> Result<Pattern, String> {
        let glob = glob.strip_prefix("./").unwrap_or(glob);
        if glob.is_empty() {
            return Err("it is empty; expected a glob such as `**/pipelines.{yml,yaml}`".to_owned());
        }
        if glob.starts_with('/') || glob.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(
                "expected a glob for paths below the directory, without a leading `/`, `.` and `..`".to_owned(),
            );
        }
        fast_glob::validate(glob).map_err(|error| error.to_string())?;
        let is_special = |part: &str| part.contains(['*', '?', '[', ']', '{', '}', '\\', '!']);
        let mut directories: Vec<String> = glob
            .split('/')
            .take_while(|part| !is_special(part))
            .map(str::to_owned)
            .collect();
        // The last part is the file.
        directories.truncate(glob.split('/').count() - 1);
        let is_deep = glob.contains("**") || glob.starts_with('!');
        Ok(Pattern {
            glob: glob.to_owned(),
            directories,
            max_depth: if is_deep { usize::MAX } else { glob.matches('/').count() },
        })
    }

    fn matches(&self, relative: &Path) -> bool {
        fast_glob::glob_match(&self.glob, relative.as_os_str().as_bytes())
    }

    /// Whether there can be a match below the directory.
    fn goes_below(&self, directory: &Path) -> bool {
        let parts: Vec<&OsStr> = directory.components().map(Component::as_os_str).collect();
        parts.len() <= self.max_depth
            && parts
                .iter()
                .zip(&self.directories)
                .all(|(part, name)| *part == OsStr::new(name))
    }
}

/// A directory that is yet to be read.
struct Directory {
    relative: PathBuf,
    path: Rc<PathIds>,
}

/// A directory and those that it was reached through.
struct PathIds {
    id: FileId,
    parent: Option<Rc<PathIds>>,
}

impl PathIds {
    fn contains(&self, id: FileId) -> bool {
        let mut next = Some(self);
        while let Some(directory) = next {
            if directory.id == id {
                return true;
            }
            next = directory.parent.as_deref();
        }
        false
    }
}

struct Walk<'a> {
    base: &'a Path,
    pattern: &'a Pattern,
    data: Option<FileId>,
    /// Matching files by their paths below the base.
    candidates: Vec<(PathBuf, FileId)>,
    linked_visits: HashMap<FileId, usize>,
    warnings: Vec<Complaint>,
}

impl Walk<'_> {
    fn run(&mut self, base: FileId) {
        let mut pending = vec![Directory {
            relative: PathBuf::new(),
            path: Rc::new(PathIds { id: base, parent: None }),
        }];
        while let Some(directory) = pending.pop() {
            let mut names = match self.names(&directory.relative) {
                Ok(names) => names,
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.skip(&directory.relative, &error);
                    continue;
                }
            };
            // The first name is read first; which visits come first decides which are too many.
            names.sort_by(|(one, _), (other, _)| other.cmp(one));
            for (name, kind) in names {
                if let Some(inside) = self.look_at(&directory, &name, kind) {
                    pending.push(inside);
                }
            }
        }
    }

    fn names(&self, relative: &Path) -> io::Result<Vec<(OsString, FileType)>> {
        fs::read_dir(self.base.join(relative))?
            .map(|entry| {
                let entry = entry?;
                Ok((entry.file_name(), entry.file_type()?))
            })
            .collect()
    }

    fn skip(&mut self, relative: &Path, error: &io::Error) {
        let message = format!("skipped, for it can't be read: {}", reason(error));
        self.warnings
            .push(Complaint::about(&below(self.base, relative), message));
    }

    /// Remembers a file that matches; a directory that is to be read is returned.
    fn look_at(&mut self, directory: &Directory, name: &OsStr, kind: FileType) -> Option<Directory> {
        let relative = directory.relative.join(name);
        let is_match = self.pattern.matches(&relative);
        let can_go_below = (kind.is_dir() || kind.is_symlink())
            && !SKIPPED.iter().any(|skipped| name == OsStr::new(skipped))
            && self.pattern.goes_below(&relative);
        if !is_match && !can_go_below {
            return None;
        }
        let metadata = match fs::metadata(self.base.join(&relative)) {
            Ok(metadata) => metadata,
            Err(error) => {
                // A link that leads nowhere is nobody's business unless it looks like a definition file.
                if is_match || kind.is_dir() {
                    self.skip(&relative, &error);
                }
                return None;
            }
        };
        if metadata.is_file() && is_match {
            self.candidates.push((relative, file_id(&metadata)));
            return None;
        }
        let id = file_id(&metadata);
        if !metadata.is_dir() || !can_go_below || self.data == Some(id) || directory.path.contains(id) {
            return None;
        }
        if kind.is_symlink() {
            let visits = self.linked_visits.entry(id).or_default();
            *visits += 1;
            if *visits > MAX_LINKED_VISITS {
                return None;
            }
        }
        Some(Directory {
            relative,
            path: Rc::new(PathIds {
                id,
                parent: Some(Rc::clone(&directory.path)),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::testing::Space;

    #[track_caller]
    fn check_search(space: &Space, search: &Search, expected: &[&str]) {
        let found = find(search);
        let complaints: Vec<String> = found
            .errors
            .iter()
            .chain(&found.warnings)
            .map(|found| space.text(found))
            .collect();
        assert_eq!(complaints, Vec::<String>::new());
        let files: Vec<&str> = found.files.iter().map(|file| space.below(file)).collect();
        assert_eq!(files, expected, "{}", search.pattern);
    }

    #[track_caller]
    fn check(space: &Space, pattern: &str, expected: &[&str]) {
        check_search(space, &space.search(pattern), expected);
    }

    #[test]
    fn patterns() {
        let space = Space::new();
        for file in [
            "pipelines.yml",
            "pipelines.yaml",
            "pipelines.yml.bak",
            "b/pipelines.yml",
            "a/pipelines.yml",
            "a/b/c/pipelines.yaml",
            ".ci/pipelines.yml",
            "a/other.yml",
        ] {
            space.write(file, "");
        }
        let all = [
            ".ci/pipelines.yml",
            "a/b/c/pipelines.yaml",
            "a/pipelines.yml",
            "b/pipelines.yml",
            "pipelines.yaml",
            "pipelines.yml",
        ];
        check(&space, "**/pipelines.{yml,yaml}", &all);
        check(&space, "./**/pipelines.{yml,yaml}", &all);
        check(&space, "pipelines.yml", &["pipelines.yml"]);
        check(&space, "*.yaml", &["pipelines.yaml"]);
        check(
            &space,
            "*/*.yml",
            &[".ci/pipelines.yml", "a/other.yml", "a/pipelines.yml", "b/pipelines.yml"],
        );
        check(&space, "a/**/*.yaml", &["a/b/c/pipelines.yaml"]);
        check(&space, "a/b/c/pipelines.yaml", &["a/b/c/pipelines.yaml"]);
        check(
            &space,
            "{a/b/c,b}/pipelines.*",
            &["a/b/c/pipelines.yaml", "b/pipelines.yml"],
        );
        check(&space, "c/**", &[]);
    }

    #[test]
    fn the_base_is_part_of_the_paths_unless_it_is_the_current_directory() {
        assert_eq!(below(Path::new("."), Path::new("a/p.yml")), Path::new("a/p.yml"));
        assert_eq!(below(Path::new("ci"), Path::new("a/p.yml")), Path::new("ci/a/p.yml"));
        assert_eq!(below(Path::new("."), Path::new("")), Path::new("."));
    }

    #[test]
    fn some_directories_are_never_looked_into() {
        let space = Space::new();
        for directory in [
            ".git",
            "a/.git",
            "node_modules",
            "a/node_modules/b",
            ".prunner/logs",
            "git",
        ] {
            space.write(&format!("{directory}/pipelines.yml"), "");
        }
        space.write("data/pipelines.yml", "");
        space.link("data", "linked");
        space.link("node_modules", "a/modules");
        let mut search = space.search("**/pipelines.yml");
        check_search(
            &space,
            &search,
            &["a/modules/pipelines.yml", "data/pipelines.yml", "git/pipelines.yml"],
        );
        search.data = space.path("data");
        check_search(
            &space,
            &search,
            &[
                ".prunner/logs/pipelines.yml",
                "a/modules/pipelines.yml",
                "git/pipelines.yml",
            ],
        );
    }

    #[test]
    fn links_are_followed_and_a_file_counts_once() {
        let space = Space::new();
        space.write("z/pipelines.yml", "");
        space.write("elsewhere.yml", "");
        space.link("z", "a");
        space.link("elsewhere.yml", "m/pipelines.yml");
        std::fs::hard_link(space.path("z/pipelines.yml"), space.path("y.yml")).unwrap();
        check(&space, "**/*.yml", &["a/pipelines.yml", "elsewhere.yml"]);
        check(&space, "**/pipelines.yml", &["a/pipelines.yml", "m/pipelines.yml"]);
        // The real directory is found although the link to it was walked through before.
        check(&space, "z/*.yml", &["z/pipelines.yml"]);
        check(&space, "[xyz]/*.yml", &["z/pipelines.yml"]);
    }

    #[test]
    fn loops_of_links_end() {
        let space = Space::new();
        space.write("a/b/pipelines.yml", "");
        space.link("a", "a/b/up");
        space.link("", "a/top");
        space.link("self", "self");
        check(&space, "**/pipelines.yml", &["a/b/pipelines.yml"]);
        // Twelve directories, each with links to all: without a bound some hundred million paths.
        for directory in 0..12 {
            space.write(&format!("d{directory}/pipelines.yml"), "");
            for other in 0..12 {
                space.link(&format!("d{other}"), &format!("d{directory}/to{other}"));
            }
        }
        assert_eq!(find(&space.search("**/pipelines.yml")).files.len(), 13);
    }

    #[test]
    fn what_is_no_regular_file_is_left_out() {
        let space = Space::new();
        space.write("pipelines.yml/inside", "");
        space.write("other", "");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            space.path("a.yml"),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        check(&space, "**/*.yml", &[]);
        space.link("gone", "gone.yml");
        space.link("gone", "gone");
        let found = find(&space.search("**/*.yml"));
        let warnings: Vec<String> = found.warnings.iter().map(|found| space.text(found)).collect();
        assert_eq!(
            warnings,
            ["/gone.yml: skipped, for it can't be read: too many levels of symbolic links"]
        );
    }

    #[test]
    fn unreadable_directories_are_skipped_with_a_warning() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt;

        let space = Space::new();
        space.write("a/pipelines.yml", "");
        space.write("closed/pipelines.yml", "");
        std::fs::set_permissions(space.path("closed"), Permissions::from_mode(0o000)).unwrap();
        let search = space.search("**/pipelines.yml");
        // Nothing is closed for root, so that a thread of its own looks as nobody.
        let look = std::thread::Builder::new().name("nobody".to_owned()).spawn(move || {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::thread::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            find(&search)
        });
        let found = look.unwrap().join().unwrap();
        let warnings: Vec<String> = found.warnings.iter().map(|found| space.text(found)).collect();
        assert_eq!(warnings, ["/closed: skipped, for it can't be read: permission denied"]);
        assert_eq!(found.files, [space.path("a/pipelines.yml")]);
    }

    #[test]
    fn bad_patterns_and_paths() {
        #[track_caller]
        fn check(search: &Search, space: &Space, expected: &str) {
            let found = find(search);
            let errors: Vec<String> = found.errors.iter().map(|found| space.text(found)).collect();
            assert_eq!(errors, [expected]);
            assert!(found.files.is_empty());
        }
        let space = Space::new();
        space.write("file", "");
        check(
            &space.search("**/{a,b"),
            &space,
            ": the pattern `**/{a,b` can't be used: unclosed brace expansion at byte 3; missing '}' (to match a literal '{', \
             escape it as '\\{' or '[{]')",
        );
        check(
            &space.search(""),
            &space,
            ": the pattern `` can't be used: it is empty; expected a glob such as `**/pipelines.{yml,yaml}`",
        );
        for pattern in ["/etc/*.yml", "../*.yml", "a/./b"] {
            check(
                &space.search(pattern),
                &space,
                &format!(
                    ": the pattern `{pattern}` can't be used: expected a glob for paths below the directory, without a leading \
                     `/`, `.` and `..`"
                ),
            );
        }
        let mut search = space.search("**");
        search.path = space.path("file");
        check(
            &search,
            &space,
            "/file: is not a directory; expected the one below which pipelines are looked for",
        );
    }
}
