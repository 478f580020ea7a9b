//! What the papers say is what the code does.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The first block of Rust behind `mark`, without white space: how it is wrapped is up to the
/// paper.
fn block(text: &str, mark: &str) -> String {
    let (_, after) = text.split_once(mark).unwrap_or_else(|| panic!("{mark} is not there"));
    let (_, code) = after.split_once("```rust\n").expect("a block follows");
    code.split_once("```").expect("it ends").0.split_whitespace().collect()
}

/// The reference shows the expansion of the README's first example. The snapshot, which the tests
/// of the macro crate keep true, has that example in the comment at its head.
#[test]
fn the_expansion_in_the_reference_is_real() {
    let (readme, snapshot) = (read("README.md"), read("macros/snapshots/readme.rs"));
    let (input, expansion) = snapshot.split_once("\n\n").unwrap();
    let input = input.lines().map(|line| line.strip_prefix("// ").unwrap());
    let input: String = input.collect::<Vec<_>>().join(" ").split_whitespace().collect();
    assert_eq!(block(&readme, "# graceful"), input);
    // A formatter may add a comma at the end of a list that it wraps.
    let expansion: String = expansion.split_whitespace().collect();
    let without = |text: &str| text.replace(",)", ")");
    let reference = read("docs/reference.md");
    assert_eq!(without(&block(&reference, "<!-- expansion -->")), without(&expansion));
}

/// The table of options of the macro crate, which its parser works by, against the documents. The
/// README has the five that most need.
#[test]
fn every_option_is_documented_with_its_default() {
    let table = read("macros/snapshots/options.md");
    for (name, text, count) in [
        ("README.md", read("README.md"), 5),
        ("main_attr.md", read("runtime/src/main_attr.md"), table.lines().count()),
    ] {
        let mut found = 0;
        for option in table.lines() {
            let cells: Vec<_> = option.split('|').map(|it| it.trim().trim_matches('`')).collect();
            let (option, default) = (cells[1], cells[2]);
            let row = text.lines().find(|line| line.starts_with(&format!("| `{option}` |")));
            let Some(row) = row else { continue };
            assert!(row.contains(default), "the default of `{option}` in {name}: {row}");
            found += 1;
        }
        assert_eq!(found, count, "options in {name}");
    }
}

/// Short enough to be read: what is left out is in `docs/`.
#[test]
fn the_readme_and_the_architecture_are_short() {
    let words = |text: &str| {
        text.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count()
    };
    for (paper, most) in [("README.md", 900), ("ARCHITECTURE.md", 1_500)] {
        let count = words(&read(paper));
        assert!(count <= most, "{paper}: {count} words");
    }
}

/// All files below `folder`, but for what is built.
fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            files(&path, all);
        } else {
            all.push(path);
        }
    }
}

/// A file that a paper names is there, in whichever folder.
#[test]
fn every_file_that_is_named_exists() {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut all);
    let mut named = 0;
    for paper in ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "tests/MUTANTS.md"] {
        for word in read(paper).split('`').skip(1).step_by(2) {
            let word = word.split_whitespace().next().unwrap_or_default();
            let endings = [".rs", ".md", ".py", ".toml", ".sh"];
            if word.starts_with(".ci/") || endings.iter().any(|ending| word.ends_with(ending)) {
                assert!(all.iter().any(|path| path.ends_with(word)), "{paper} names `{word}`");
                named += 1;
            }
        }
    }
    assert!(named > 40, "{named}");
}
