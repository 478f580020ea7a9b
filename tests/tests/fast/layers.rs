//! The order of the runtime's folders: each uses only those that stand before it, and within a
//! folder no file uses, through others, itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The folders in their order, as ARCHITECTURE.md has it.
const LAYERS: [&str; 12] = [
    "util", "signal", "log", "manager", "work", "stop", "context", "net", "handover", "http",
    "serve", "config",
];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/src")
}

/// A file below a folder of the order.
struct File {
    layer: usize,
    /// Such as `["http", "h1", "service"]`; a `mod.rs` has the name of its folder.
    module: Vec<String>,
    code: String,
}

fn files() -> Vec<File> {
    let mut all = Vec::new();
    let mut folders = vec![src()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(src()).unwrap().with_extension("");
            let mut module: Vec<_> =
                relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if path.extension().is_none_or(|extension| extension != "rs") || module == ["lib"] {
                continue;
            }
            module.pop_if(|last| last == "mod");
            let layer = LAYERS.iter().position(|layer| *layer == module[0]);
            let layer = layer.unwrap_or_else(|| panic!("{module:?} is in no folder of the order"));
            all.push(File { layer, module, code: code(&fs::read_to_string(&path).unwrap()) });
        }
    }
    assert!(all.len() > 50, "{} files", all.len());
    all
}

/// Without comments and tests: tests may use what the code may not.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod").next().unwrap();
    let text = text.split("#[cfg(all(test").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The first names of all paths that begin with `root::`, in braces or not.
fn used<'a>(code: &'a str, root: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, found) in code.match_indices(root) {
        if code[..at].ends_with(is_word) || code[..at].ends_with(':') {
            continue;
        }
        let rest = &code[at + found.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.push(&rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]);
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in list.char_indices() {
            if begins && depth == 0 && is_word(c) {
                let rest = &list[at..];
                names.push(&rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]);
            }
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                _ => {}
            }
            begins = c == ',' || begins && c.is_whitespace();
        }
    }
    names
}

#[test]
fn each_folder_uses_only_those_before_it() {
    let mut count = 0;
    for File { layer, module, code } in files() {
        for name in used(&code, "crate::") {
            let Some(named) = LAYERS.iter().position(|layer| *layer == name) else {
                // A macro, or an item of `lib.rs`.
                continue;
            };
            count += 1;
            assert!(named <= layer, "{} uses `crate::{name}`", module.join("/"));
        }
    }
    assert!(count > 60, "{count} uses: does this test still see them?");
}

#[test]
fn no_file_of_a_folder_uses_itself_through_others() {
    // From a file or folder to its siblings: `super::name`, or `crate::folder::name`.
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let files = files();
    let modules: BTreeSet<_> = files.iter().map(|file| file.module.join("/")).collect();
    for File { module, code, .. } in &files {
        // A `mod.rs` is the map of its folder, and names all of it.
        if modules.iter().any(|other| other.starts_with(&format!("{}/", module.join("/")))) {
            continue;
        }
        for depth in 1..module.len() {
            let (folder, absolute) = (module[..depth].join("/"), module[..depth].join("::"));
            let mut names = used(code, &format!("crate::{absolute}::"));
            if depth + 1 == module.len() {
                names.extend(used(code, "super::"));
            }
            let siblings = names.iter().map(|name| format!("{folder}/{name}"));
            let this = module[..=depth].join("/");
            let siblings = siblings.filter(|name| modules.contains(name) && *name != this);
            graph.entry(this.clone()).or_default().extend(siblings);
        }
    }
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > 80, "{edges} uses: does this test still see them?");
    for start in graph.keys() {
        let mut seen = BTreeSet::new();
        let mut next: Vec<_> = graph[start].iter().collect();
        while let Some(name) = next.pop() {
            assert_ne!(name, start, "{start} uses itself, through {seen:?}");
            if seen.insert(name) {
                next.extend(graph.get(name).into_iter().flatten());
            }
        }
    }
}

#[test]
fn each_folder_has_a_map() {
    for layer in LAYERS {
        let map = fs::read_to_string(src().join(layer).join("mod.rs")).unwrap();
        assert!(map.starts_with("//! "), "{layer}/mod.rs says what is in it");
        assert!(map.contains("//! May use: "), "{layer}/mod.rs says what it may use");
    }
}
